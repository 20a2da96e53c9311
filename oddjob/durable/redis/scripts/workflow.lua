-- What jobs have to do with others; after `common.lua`. It is one function, so that scripts which have
-- nothing to do with that in most calls make only one.
--
-- A job that waits for others is in `due`, at infinity. A *batch* is such a job, too, without a call:
-- it waits for its members. In `extra`, ids of 16 digits and conditions of one:
--   'd' id: what a job waits for      'w' id: who waits for it; then it is in `watch`
--   'B' id: members of a batch: how many, and how many have not ended, have failed, were canceled
-- and in `holders`: 'b', id of a batch, ids of up to 25 members that came together, in order. A member's
-- record ends in its batch's id.
-- What is not met stays in 'd' and 'w', for when the other job is retried.
local function workflow()
  local SUCCESS, VALUE, IF_SUCCEEDED, IF_FAILED, ENDED = '0', '1', '2', '3', '4'
  local flow, new_members = {}, {}

  local function is_met(condition, state)
    if condition == IF_FAILED then return state == FAILED end
    return condition == ENDED or state == SUCCEEDED
  end

  local function is_waiting(id) return call('ZSCORE', due, id) == 'inf' end

  -- Return the pairs of a field in `extra`: ids, and the condition of each.
  local function pairs_in(field)
    local packed, found = call('HGET', extra, field) or '', {}
    for at = 1, #packed, 17 do
      found[#found + 1] = {sub(packed, at, at + 15), sub(packed, at + 16, at + 16)}
    end
    return found
  end

  local function keep_pairs(field, pairs_left)
    local parts = {}
    for i, each in ipairs(pairs_left) do parts[i] = each[1] .. each[2] end
    if #parts == 0 then
      call('HDEL', extra, field)
    else
      call('HSET', extra, field, table.concat(parts))
    end
  end

  local function without(found, id)
    local left = {}
    for _, each in ipairs(found) do if each[1] ~= id then left[#left + 1] = each end end
    return left
  end

  -- Have `tell` look for jobs that wait for this one.
  local function mark(id) call('HSETNX', watch, id, ' ') end

  local function give_value(id, giver, value)
    local step = 'result of ' .. call('HGET', meta, 'pool') .. ':' .. giver
    if call('HSET', extra, 's' .. id .. step, value) == 1 then
      local steps = call('HGET', extra, 'n' .. id) or ''
      call('HSET', extra, 'n' .. id, steps .. pack('<I2', #step) .. step)
    end
  end

  -- End a job that waits.
  local function end_waiting(id, state, why)
    if not is_waiting(id) then return end
    local record = call('HGET', job, id)
    local _, _, origin = header(record)
    if state == CANCELLED then why = '' end
    call('ZREM', due, id)
    finish(id, state, 0, tried_of(id), '', why)
    tell(id, state, '', why, origin)
    let_go(id, record, state)
    wake_for_room()
  end

  local function follow_one(id, state, outcome)
    local left = {}
    for _, each in ipairs(pairs_in('w' .. id)) do
      local waiter, condition = each[1], each[2]
      if is_met(condition, state) then
        if condition == VALUE then give_value(waiter, id, sub(outcome, 2)) end
        local others = without(pairs_in('d' .. waiter), id)
        keep_pairs('d' .. waiter, others)
        if #others == 0 and is_waiting(waiter) then
          call('ZREM', due, waiter)
          place(waiter, call('HGET', job, waiter))
        end
      else
        left[#left + 1] = each
        local fails = state == FAILED and (condition == SUCCESS or condition == VALUE)
        local why = fails and 'PredecessorFailed: job ' .. title_of(id) .. ', which it waits for, failed'
        end_waiting(waiter, fails and FAILED or CANCELLED, why)
      end
    end
    keep_pairs('w' .. id, left)
  end

  local function counts_of(batch)
    local packed = call('HGET', extra, 'B' .. batch)
    if not packed then return nil end
    local total, pending, failed, canceled = parse('<I4I4I4I4', packed)
    return {total, pending, failed, canceled}
  end

  local function keep_counts(batch, counts)
    call('HSET', extra, 'B' .. batch, pack('<I4I4I4I4', unpack(counts)))
  end

  local function end_if_over(batch, counts)
    local total, pending, failed, canceled = unpack(counts)
    if pending > 0 then return end
    local state = failed > 0 and FAILED or canceled > 0 and CANCELLED or SUCCEEDED
    local why = state == FAILED and
      'BatchFailed: ' .. text(failed) .. ' of ' .. text(total) .. ' jobs failed' or ''
    end_waiting(batch, state, why)
  end

  -- Do what follows from all ends that this script has noted.
  function flow.follow()
    while #ends > 0 or next(members_ended) do
      local jobs, batches = ends, members_ended
      ends, members_ended = {}, {}
      for batch, change in pairs(batches) do
        local counts = counts_of(batch)
        if counts then
          counts[2] = math.max(0, counts[2] - change[1])
          counts[3], counts[4] = counts[3] + change[2], counts[4] + change[3]
          keep_counts(batch, counts)
          end_if_over(batch, counts)
        end
      end
      for _, each in ipairs(jobs) do follow_one(each[1], each[2], each[3]) end
    end
  end

  -- New jobs.

  local function add_member(batch, id)
    local ids = new_members[batch] or {}
    new_members[batch] = ids
    if id then ids[#ids + 1] = id end
  end

  -- Let a new job wait for another one; return whether it does. `is_new`: the other one is, too.
  local function add_dependency(id, other, condition, is_new)
    if not is_new then
      if call('HEXISTS', job, other) == 0 then return false end  -- it has ended long ago
      local state = state_of(other)
      if state >= SUCCEEDED and is_met(condition, state) then return false end
      if state >= SUCCEEDED then ends[#ends + 1] = {other, state, ''} end
    end
    local others = without(pairs_in('d' .. id), other)
    others[#others + 1] = {other, condition}
    keep_pairs('d' .. id, others)
    call('HSET', extra, 'w' .. other, (call('HGET', extra, 'w' .. other) or '') .. id .. condition)
    mark(other)
    return true
  end

  -- Count the new members, once all jobs are linked.
  local function count_members()
    for batch, ids in pairs(new_members) do
      local counts = counts_of(batch) or {0, 0, 0, 0}
      counts[1], counts[2] = counts[1] + #ids, counts[2] + #ids
      keep_counts(batch, counts)
      for i = 1, #ids, 25 do
        call('ZADD', holders, 0, 'b' .. batch .. table.concat(ids, '', i, math.min(i + 24, #ids)))
      end
      end_if_over(batch, counts)
    end
  end

  -- Link the jobs that `insert` has stored, of which the first new one has the id `first`; those that
  -- wait for others are due at infinity. In `packed`, for each submit: how many others it waits for; how
  -- many places before it its batch is (0: the record has its id, or there is none); of each other its
  -- id, or how many places before it is, and the condition.
  function flow.link(count, first, packed)
    local ids, is_new, records, at = {}, {}, {}, 1
    for i = 1, #twins, 3 do ids[twins[i]] = twins[i + 1] end
    for _, i in ipairs(turned_away) do ids[i] = '' end
    for i = 1, count do
      is_new[i] = not ids[i]
      if is_new[i] then ids[i], first = id_text(first), first + 1 end
    end
    for i = 1, count do
      local id, record, number, batch_before = ids[i], ARGV[8 + i], nil, nil
      number, batch_before, at = parse('<I2I4', packed, at)
      local waits = is_of_batch(record)
      if waits and is_new[i] then add_member(id) end
      for _ = 1, number do
        local other, before, condition
        other, before, condition, at = parse('<c16I4c1', packed, at)
        if before > 0 then other = ids[i - before] end
        if is_new[i] and add_dependency(id, other, condition, before > 0) then waits = true end
      end
      local batch = is_new[i] and batch_of(record)
      if batch_before > 0 and batch then
        batch = ids[i - batch_before]
        record = sub(record, 1, -17) .. batch
        records[#records + 1], records[#records + 2] = id, record
      end
      if batch then add_member(batch, id) end
      if is_new[i] and number > 0 and not waits then  -- all of them have ended
        call('ZREM', due, id)
        place(id, record)
      end
    end
    for i = 1, #records, 1000 do
      call('HSET', job, unpack(records, i, math.min(i + 999, #records)))
    end
    count_members()
    flow.follow()
  end

  -- By hand.

  function flow.is_batch(id) return call('HEXISTS', extra, 'B' .. id) == 1 end

  -- Return the members of a batch of which there are records, the latest first.
  function flow.members(batch)
    local found = {}
    local from = '[b' .. batch
    for _, each in ipairs(call('ZREVRANGEBYLEX', holders, from .. '\255', from)) do
      for at = #each - 15, 18, -16 do
        local id = sub(each, at, at + 15)
        if call('HEXISTS', job, id) == 1 then found[#found + 1] = id end
      end
    end
    return found
  end

  -- Let a job wait again that has ended, if no other one has taken its place.
  local function reopen(id)
    local record, state = call('HGET', job, id), state_of(id)
    if not record or state < SUCCEEDED then return false end
    local _, _, _, _, _, _, value, entry = header(record)
    if value ~= '' and call('HSETNX', unique, value, id) == 0 then return false end
    if entry ~= '' then call('ZADD', holders, 0, 'e' .. digest_of(entry) .. id) end
    record = sub(record, 1, 8) .. pack('<d', 0) .. sub(record, 17)  -- nobody waits for it any more
    call('HSET', job, id, record)
    call('HDEL', outcomes, id)
    call('HDEL', tries, id)
    call('ZREM', ended, id)
    call('ZADD', due, 'inf', id)
    return true, state, record
  end

  -- Return whether something has ended that a job waits for.
  local function is_any_over(id)
    for _, each in ipairs(pairs_in('d' .. id)) do
      if state_of(each[1]) >= SUCCEEDED then return true end
    end
    return false
  end

  -- Let a job that has ended wait again for what it waited for; return whether it does. Nil: there is
  -- nothing left that it waits for. False: something of it has ended as well.
  function flow.wait_again(id)
    local others = {}
    for _, each in ipairs(pairs_in('d' .. id)) do
      if call('HEXISTS', job, each[1]) == 1 then others[#others + 1] = each end  -- else it is deleted
    end
    keep_pairs('d' .. id, others)
    if #others == 0 then return nil end
    if is_any_over(id) then return false end
    local is_open, state, record = reopen(id)
    if is_open then flow.resumed(id, state, record) end
    return is_open
  end

  -- Note that a job which had ended in a state has not any more.
  function flow.resumed(id, state, record)
    local left = {{id, state, record}}
    while #left > 0 do
      id, state, record = unpack(table.remove(left))
      local batch = batch_of(record)
      local counts = batch and counts_of(batch)
      if counts then
        counts[2] = counts[2] + 1
        local place_of = state == FAILED and 3 or 4
        counts[place_of] = counts[place_of] - 1
        keep_counts(batch, counts)
        local is_open, state_before, of_batch = reopen(batch)
        if is_open then left[#left + 1] = {batch, state_before, of_batch} end
      end
      local waiters = pairs_in('w' .. id)
      if #waiters > 0 then mark(id) end
      for _, each in ipairs(waiters) do
        if not is_any_over(each[1]) then
          local is_open, state_before, of_waiter = reopen(each[1])
          if is_open then left[#left + 1] = {each[1], state_before, of_waiter} end
        end
      end
    end
  end

  return flow
end

local function follow_ends()
  if #ends > 0 or next(members_ended) then
    links = links or workflow()
    links.follow()
  end
end
