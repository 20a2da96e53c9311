-- What every script on a pool begins with. All keys are in KEYS, and have the pool's hash tag.
--
--  1 job       HASH  id -> record, packed by the process that submitted it; only `retry` changes it
--  2 queue     ZSET  id, behind its turn if it has one; score = partition * 2^32 + 2^31 - 1 -
--                    priority: of a partition by priority, then by turn, then by id
--  3 due       ZSET  id of a scheduled job; score = when it is due, in seconds
--  4 parked    ZSET  scores 0; digest of a key, inverted priority, id: behind others of the key
--  5 run       ZSET  id of a claimed job; score = token = process * 2^32 + number of the call, modulo
--                    2^32; and a filler with score 0: for its length, the server keeps a skip list even
--                    of a few, not a packed list that it would search from the beginning for each
--  6 busy      ZSET  id of a claimed job whose partition has limiters; score = partition
--  7 tries     HASH  id -> attempts * 1000 + crashes, of jobs that have not ended and have any
--  8 holders   ZSET  scores 0; 'k', digest of a key, id: a job that holds a slot of its key;
--                    'e', digest of an entry's name, id: a job of the entry that has not ended
--  9 unique    HASH  unique value -> id of the job that has not ended
-- 10 ended     ZSET  id; score = state * 2^43 + time of the end in ms
-- 11 outcomes  HASH  id -> what became of its latest attempt, see `outcome_of`
-- 12 extra     HASH  'a' id: its failed attempts; 'p' id: progress; 'n' id: names of its steps;
--                    's' id name: value of a step; 'd', 'w' and 'B' id: see `workflow.lua`
-- 13 stopped   SET   ids of claimed jobs that were asked to stop
-- 14 watch     HASH  id -> processes that wait for its end besides its origin
-- 15 news      ZSET  what a process is to hear; score = process * 2^32 + serial number
-- 16 hungry    ZSET  partition:process of a process that found too little; score = partition
-- 17 spare     SET   processes that have claims which wait for a worker
-- 18 room      SET   processes that wait for room in the queue
-- 19 members   HASH  process -> '' if it only submits, else '*' and the partitions that it
--                    claims from
-- 20 known     ZSET  function, NUL, process; score = process
-- 21 stranded  HASH  partition -> since when no process knows its function, though some run jobs
-- 22 entries   HASH  name -> recurring entry;  23 ticks ZSET partition:name, score = next tick
-- 24 meta      HASH  pool: its name; id: the last one; news, partition, member: counters, the second
--                    of partitions, which have numbers below 2^20 of their own; paused: why;
--                    failing: lines of serial jobs that have to fail, packed by cmsgpack;
--                    'l' function NUL limiters -> partition; 'd' limiter -> what it allows;
--                    's' limiter -> partitions that share it; limited: partitions that have any;
--                    'l' NUL NUL 'format' -> 2 once jobs have had turns. (Versions that know no
--                    turns take that for a partition which they cannot read, and claim no more.)
-- 25 times     HASH  token -> when its jobs were claimed; 'r' limiter -> tokens of a rate, and when
--                    they were counted
-- 26 turns     HASH  id -> turn and line of a job that has not ended; 'l' priority -> the latest turn
--                    that has started. Of jobs and priorities since the first fair job of these
-- 27 lines     ZSET  scores 0; line, turn, id: a job that is queued or parked. A *line* is the digest
--                    of a priority and a fair key; a *turn* a double, big-endian, to sort as bytes
-- 28 mine      HASH  of the calling process, or the dead one: nonce; number of its last call and
--                    the answer to it; those of `submit`; news: the last one that was read
-- 29 ...       ZSET  starts of a rate limiter; score = time
--
-- ARGV 1 is the prefix of the channels on which processes are woken.
local job, queue, due, parked, run, busy, tries, holders, unique, ended, outcomes, extra, stopped,
  watch, news, hungry, spare, room, members, known, stranded, entries, ticks, meta, times, turns,
  lines, mine = unpack(KEYS, 1, 28)
local call, pack, parse, sub = redis.call, struct.pack, struct.unpack, string.sub
local SCHEDULED, QUEUED, RUNNING, PARKED, SUCCEEDED, FAILED, CANCELLED = 0, 1, 2, 3, 4, 5, 6
local SHARE = 4294967296  -- of the tokens, for each process
local PARTITION = 4294967296  -- of the scores in `queue`, for each partition
local STATE = 8796093022208  -- of the scores in `ended`, for each state
local HIGHEST = 2147483647  -- priority
local FILLER = string.rep(' ', 65)
local CHANNELS = ARGV[1]
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = now_us / 1000000
local queued, partitions_queued = {}, {}  -- jobs that this script has queued, by partition; these
local is_released = false  -- a job of a partition with limiters runs no longer
local has_turns = call('EXISTS', turns) == 1
-- Jobs that have ended, for which others may wait, and counts of members by their batches; what
-- does the rest is in `workflow.lua`.
local ends, members_ended, links = {}, {}, nil
local may_fail, is_failing = 500, false  -- behind serial jobs that have failed

local function text(number) return string.format('%.0f', number) end
local function exact(number) return string.format('%.17g', number) end

-- Calls of members. A call that was cut off is sent again with its number, and answered the same.

local process, number, own

-- Return whether the call was answered before, and how; or refused, as the caller was taken over.
local function begin()
  local nonce
  nonce, process, number = parse('<c8dd', ARGV[2])
  own = call('HMGET', mine, 'nonce', 'number', 'answer', 'news')
  if own[1] ~= nonce then return true, false end
  if tonumber(own[2]) == number then
    call('HSET', mine, 'number', own[2])  -- a write, as replicas are to have what there is by now
    return true, cmsgpack.unpack(own[3])
  end
end

local function answer(what)
  call('HSET', mine, 'number', text(number), 'answer', cmsgpack.pack(what))
  return what
end

-- Records.

-- Return partition, priority, origin, limit of the key, whether it is serial, key, unique value,
-- and entry.
local function header(record)
  local partition, priority, origin, limit, flags, key, value, entry, _, _, at =
    parse('<I4i4dI4BI2I2I2I2I4', record)
  return partition, priority, origin, limit, flags % 2 == 1, sub(record, at, at + key - 1),
    sub(record, at + key, at + key + value - 1),
    sub(record, at + key + value, at + key + value + entry - 1)
end

-- The name and the id of a job, for messages.
local function title_of(id)
  local full, record = call('HGET', meta, 'pool') .. ':' .. id, call('HGET', job, id)
  if not record then return full end
  local _, _, _, _, _, key, value, entry, name, _, at = parse('<I4i4dI4BI2I2I2I2I4', record)
  at = at + key + value + entry
  return name == 0 and full or sub(record, at, at + name - 1) .. ' (' .. full .. ')'
end

-- Flags of a record: 1 it is serial, 2 it is a member of a batch, 4 it stands for one, 8 it takes the
-- place of one that is as unique and waits, 16 also as to its time, 32 (the highest one) it is fair:
-- before the id of its batch are its fair key, its step, and the size of the key.
local FAIR = 32
local function batch_of(record)
  return math.floor(string.byte(record, 21) / 2) % 2 == 1 and sub(record, -16) or nil
end
local function is_of_batch(record) return math.floor(string.byte(record, 21) / 4) % 2 == 1 end

-- Ids are the server's microseconds, or the last one + 1: in order, and of 16 digits.
local function take_ids(count)
  local first = math.max(tonumber(call('HGET', meta, 'id') or 0) + 1, now_us)
  call('HSET', meta, 'id', string.format('%016.0f', first + count - 1))
  return first
end
local function id_text(id) return string.format('%016.0f', id) end

-- Waking others.

local function wake(other)
  if tonumber(other) ~= process then call('PUBLISH', CHANNELS .. other, '') end
end

local function wake_members()
  for _, other in ipairs(call('HKEYS', members)) do wake(other) end
end

local function is_consumer(partitions) return sub(partitions or '', 1, 1) == '*' end

local function wake_consumers()
  local all = call('HGETALL', members)
  for i = 1, #all, 2 do if is_consumer(all[i + 1]) then wake(all[i]) end end
end

-- Return the places of a process in `hungry`.
local function places_of(other)
  local places = {}
  for partition in string.gmatch(call('HGET', members, other) or '', '%d+') do
    places[#places + 1] = partition .. ':' .. other
  end
  return places
end

-- Wake up to `count` processes that are hungry for jobs of a partition; it is up to them then.
local function wake_hungry(partition, count)
  local places = call('ZRANGEBYSCORE', hungry, partition, partition, 'LIMIT', 0, count + 1)
  for _, place in ipairs(places) do
    local other = string.match(place, ':(.*)')
    if tonumber(other) ~= process and count > 0 then
      count = count - 1
      call('ZREM', hungry, unpack(places_of(other)))
      wake(other)
    end
  end
end

local function has_queued(partition)
  local from = partition * PARTITION
  return #call('ZRANGEBYSCORE', queue, from, from + PARTITION - 1, 'LIMIT', 0, 1) > 0
end

-- Wake those who could run what this script leaves behind, also in some `more` partitions.
local function wake_for_jobs(more)
  if #partitions_queued > 0 and call('HLEN', stranded) > 0 then
    for _, partition in ipairs(partitions_queued) do  -- jobs that will have to fail some day
      if call('HEXISTS', stranded, partition) == 1 then wake_consumers() end
    end
  end
  if call('ZCARD', hungry) == 0 then return end
  local partitions = more or {}
  if is_released then
    for partition in string.gmatch(call('HGET', meta, 'limited') or '', '%d+') do
      partitions[#partitions + 1] = tonumber(partition)
    end
  end
  for _, partition in ipairs(partitions_queued) do partitions[#partitions + 1] = partition end
  local seen = {}
  for _, partition in ipairs(partitions) do
    if not seen[partition] then
      seen[partition] = true
      local count = math.min(math.max(1, queued[partition] or 0), 8)
      if has_queued(partition) then wake_hungry(partition, count) end
    end
  end
end

-- Those who sleep until the next job is due: one of them has to look earlier, if it is another one.
local function wake_for_alarm(next_before)
  local next_due = call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
  local place = call('ZRANGE', hungry, 0, 0)[1]
  if place and next_due and tonumber(next_due) < tonumber(next_before or 1e300) then
    wake_hungry(tonumber(string.match(place, '(.*):')), 1)
  end
end

local function wake_for_room()
  if call('SCARD', room) > 0 then
    for _, other in ipairs(call('SMEMBERS', room)) do wake(other) end
    call('DEL', room)
  end
end

-- Return the function of the partition that a field of `meta` has, if it has one.
local function function_of(field) return string.match(field, '^l([^%z]+)%z') end

-- Note since when jobs of a partition have nobody to run them; after any change of who knows what.
local function review_partitions()
  local known_here, is_served = {}, false
  for _, place in ipairs(call('ZRANGE', known, 0, -1)) do
    known_here[string.match(place, '^(.*)%z') or ''] = true
  end
  for _, partitions in ipairs(call('HVALS', members)) do
    is_served = is_served or is_consumer(partitions)
  end
  local all = call('HGETALL', meta)
  for i = 1, #all, 2 do
    local fn = function_of(all[i])
    if fn and (known_here[fn] or not is_served) then
      call('HDEL', stranded, all[i + 1])
    elseif fn then
      call('HSETNX', stranded, all[i + 1], exact(now))
    end
  end
end

-- News.

local function add_news(reader, id, state, outcome, error)
  if call('HEXISTS', members, reader) == 0 then return end
  local serial = call('HINCRBY', meta, 'news', 1) % SHARE
  call('ZADD', news, text(reader * SHARE + serial),
    pack('<dBI4', serial, state, #error) .. id .. error .. outcome)
  wake(reader)
end

-- Leave the end of a job to the processes that wait for it, but for one.
local function tell(id, state, outcome, error, origin, but)
  local readers = {}
  if origin ~= 0 then readers[text(origin)] = true end
  local watchers = call('HGET', watch, id)
  if watchers then
    call('HDEL', watch, id)
    for reader in string.gmatch(watchers, '%d+') do readers[reader] = true end
    ends[#ends + 1] = {id, state, outcome}
  end
  if but then readers[text(but)] = nil end
  for reader in pairs(readers) do add_news(reader, id, state, outcome, error) end
end

local function add_watcher(id, reader)
  local watchers = call('HGET', watch, id) or ' '
  if not string.find(watchers, ' ' .. text(reader) .. ' ', 1, true) then
    call('HSET', watch, id, watchers .. text(reader) .. ' ')
  end
end

-- Keys. A job that is queued or claimed holds a slot of its key; others of the key are parked.

local function digest_of(name) return sub(redis.sha1hex(name), 1, 20) end

local function note_queued(partition)
  if not queued[partition] then partitions_queued[#partitions_queued + 1] = partition end
  queued[partition] = (queued[partition] or 0) + 1
end

-- Turns: see `runtime/fair_turns.py`. A job that is handed back keeps its own.

-- Return a job's turn and line; '' if it has none.
local function turn_of(id) return has_turns and call('HGET', turns, id) or '' end
local function queue_place(id) return sub(turn_of(id), 1, 8) .. id end
local function line_place(id, turn) return sub(turn, 9) .. sub(turn, 1, 8) .. id end

local function join_line(id)
  local turn = turn_of(id)
  if turn ~= '' then call('ZADD', lines, 0, line_place(id, turn)) end
  return turn
end

-- Note that a job which has ended, or is about to, waits no longer.
local function leave_line(id)
  call('ZREM', lines, line_place(id, turn_of(id)))
  call('HDEL', turns, id)
end

-- Give a job that begins to wait its turn: one step behind the last of its line, or the latest start.
local function give_turn(id, record, priority)
  local is_fair = string.byte(record, 21) >= FAIR
  local level = 'l' .. priority
  local latest, key, step = call('HGET', turns, level), '', 1
  if not latest then
    if not is_fair then return end
    if not has_turns then
      has_turns = true
      call('HSET', meta, 'l\0\0format', 2)
      call('HINCRBY', meta, 'partition', 1)  -- all that consume are to read it
    end
    latest = '0'
    call('HSET', turns, level, latest)
  end
  if is_fair then
    local at, size = #record - (batch_of(record) and 25 or 9), nil
    step, size = parse('<dI2', record, at)
    key = sub(record, at - size, at - 1)
  end
  local line = digest_of(priority .. ' ' .. key)
  local last = call('ZREVRANGEBYLEX', lines, '[' .. line .. '\255', '[' .. line, 'LIMIT', 0, 1)[1]
  local before = math.max(tonumber(latest), last and parse('>d', last, 21) or 0)
  call('HSET', turns, id, pack('>d', before + step) .. line)
end

local function enqueue(id, partition, priority)
  local place = sub(join_line(id), 1, 8) .. id
  call('ZADD', queue, partition * PARTITION + HIGHEST - priority, place)
  note_queued(partition)
end

local function first_parked(digest)
  return call('ZRANGEBYLEX', parked, '[' .. digest, '[' .. digest .. '\255', 'LIMIT', 0, 1)[1]
end

local function is_free(digest, limit)
  return call('ZLEXCOUNT', holders, '[k' .. digest, '[k' .. digest .. '\255') < limit
end

local function parked_place(id, priority, key)
  return digest_of(key) .. string.format('%010.0f', HIGHEST - priority) .. id
end

-- Queue a job, or park it.
local function place(id, record)
  local partition, priority, _, limit, _, key = header(record)
  if has_turns or string.byte(record, 21) >= FAIR then give_turn(id, record, priority) end
  if key ~= '' then
    local digest = digest_of(key)
    local slot = 'k' .. digest .. id
    if not call('ZSCORE', holders, slot) then  -- a serial one keeps it between its attempts
      if first_parked(digest) or not is_free(digest, limit) then
        call('ZADD', parked, 0, parked_place(id, priority, key))
        join_line(id)
        return
      end
      call('ZADD', holders, 0, slot)
    end
  end
  enqueue(id, partition, priority)
end

-- The end of jobs.

local function outcome_of(state, finished, started, tried, outcome, error)
  return pack('<BddI4I4I4', state, finished, started, math.floor(tried / 1000), tried % 1000,
    #error) .. error .. outcome
end

local function note_outcome(id, ...) call('HSET', outcomes, id, outcome_of(...)) end

local function finish(id, state, started, tried, outcome, error)
  note_outcome(id, state, now, started, tried, outcome, error)
  call('ZADD', ended, state * STATE + math.floor(now * 1000), id)
  call('HDEL', tries, id)
  call('SREM', stopped, id)
  if has_turns then leave_line(id) end
end

local function tried_of(id) return tonumber(call('HGET', tries, id) or 0) end

local function let_key_go(id, key)
  local digest = digest_of(key)
  call('ZREM', holders, 'k' .. digest .. id)
  local first = first_parked(digest)
  while first do
    local following = sub(first, -16)
    local partition, priority, _, limit = header(call('HGET', job, following))
    if not is_free(digest, limit) then return end
    call('ZREM', parked, first)
    call('ZADD', holders, 0, 'k' .. digest .. following)
    enqueue(following, partition, priority)
    first = first_parked(digest)
  end
end

local function state_of(id)
  if call('ZSCORE', queue, queue_place(id)) then return QUEUED end
  if call('ZSCORE', run, id) then return RUNNING end
  if call('ZSCORE', due, id) then return SCHEDULED end
  local score = call('ZSCORE', ended, id)
  return score and math.floor(score / STATE) or PARKED
end

local function let_names_go(id, value, entry)
  if value ~= '' and call('HGET', unique, value) == id then call('HDEL', unique, value) end
  if entry ~= '' then call('ZREM', holders, 'e' .. digest_of(entry) .. id) end
end

local function note_member(batch, state)
  if batch then
    local change = members_ended[batch] or {0, 0, 0}
    members_ended[batch] = change
    change[1] = change[1] + 1
    if state == FAILED then change[2] = change[2] + 1 end
    if state == CANCELLED then change[3] = change[3] + 1 end
  end
end

-- Fail serial jobs behind one that has failed. A script fails 500 at most: the next turns go on
-- from the place that a line has, and the failed job holds its slot until then. Jobs that were
-- submitted meanwhile are not concerned. Return whether all have failed.
local function fail_behind(line)
  local digest = digest_of(line.key)
  local shown = sub(line.key, 1, 1) == '=' and sub(line.key, 2) or "'" .. line.key .. "'"
  local why = "PredecessorFailed: job " .. title_of(line.id) ..
    ", before it in line " .. shown .. ", failed"
  local count = may_fail
  local found = call('ZRANGEBYLEX', parked, line.place, '[' .. digest .. '\255', 'LIMIT', 0, count)
  may_fail = may_fail - #found
  for _, waiting in ipairs(found) do
    local behind = sub(waiting, -16)
    local record = call('HGET', job, behind)
    local _, _, origin, _, is_serial, _, value, entry = header(record)
    if is_serial and behind <= line.last then
      note_member(batch_of(record), FAILED)
      call('ZREM', parked, waiting)
      let_names_go(behind, value, entry)
      finish(behind, FAILED, 0, tried_of(behind), '', why)
      tell(behind, FAILED, '', why, origin)
    end
  end
  wake_for_room()
  if #found < count then
    if state_of(line.id) >= PARKED then let_key_go(line.id, line.key) end  -- it was not retried
    return true
  end
  if count > 0 then line.place = '(' .. found[count] end
  return false
end

-- Go on with lines; keep those of which there is more.
local function fail_lines(lines)
  local left = {}
  for _, line in ipairs(lines) do
    if not fail_behind(line) then left[#left + 1] = line end
  end
  if #left == 0 then
    call('HDEL', meta, 'failing')
  else
    call('HSET', meta, 'failing', cmsgpack.pack(left))
    is_failing = true
    wake_consumers()
  end
end

-- Let go of all that a job with this record holds, now that it is in an end state.
local function let_go(id, record, state)
  local _, _, _, _, is_serial, key, value, entry = header(record)
  let_names_go(id, value, entry)
  note_member(batch_of(record), state)
  if key ~= '' then
    local digest = digest_of(key)
    if state == FAILED and is_serial and first_parked(digest) then
      local lines = cmsgpack.unpack(call('HGET', meta, 'failing') or '\144')
      lines[#lines + 1] =
        {id = id, key = key, place = '[' .. digest, last = call('HGET', meta, 'id')}
      fail_lines(lines)
    else
      let_key_go(id, key)
    end
  end
end

-- Cancel a job that waits, or was just taken from the process that ran it.
local function cancel_waiting(id, record)
  local _, priority, origin, _, _, key = header(record)
  call('ZREM', queue, queue_place(id))
  call('ZREM', due, id)
  if key ~= '' then call('ZREM', parked, parked_place(id, priority, key)) end
  finish(id, CANCELLED, 0, tried_of(id), '', '')
  tell(id, CANCELLED, '', '', origin)
  let_go(id, record, CANCELLED)
  wake_for_room()
end

-- Forget the times of claims under tokens that no job has any more.
local function forget_times(tokens)
  for token in pairs(tokens) do
    token = text(token)
    if call('ZCOUNT', run, token, token) == 0 then call('HDEL', times, token) end
  end
end

-- Delete all that there is of jobs that are in no index any more.
local function erase(ids)
  if #ids == 0 then return end
  for _, hash in ipairs({job, outcomes, tries, watch}) do
    if call('EXISTS', hash) == 1 then call('HDEL', hash, unpack(ids)) end
  end
  local size, fields, lists = call('HLEN', extra), {}, {}
  if size < #ids then  -- so few that they are looked at one by one
    local gone = {}
    for _, id in ipairs(size > 0 and ids or {}) do gone[id] = true end
    for _, field in ipairs(size > 0 and call('HKEYS', extra) or {}) do
      local id = sub(field, 2, 17)
      if gone[id] then
        call('HDEL', extra, field)
        if sub(field, 1, 1) == 'B' then
          call('ZREMRANGEBYLEX', holders, '[b' .. id, '[b' .. id .. '\255')
        end
      end
    end
    return
  end
  for i, id in ipairs(ids) do
    local n = 6 * i
    fields[n - 5], fields[n - 4], fields[n - 3] = 'n' .. id, 'B' .. id, 'a' .. id
    fields[n - 2], fields[n - 1], fields[n] = 'p' .. id, 'd' .. id, 'w' .. id
    lists[2 * i - 1], lists[2 * i] = fields[n - 5], fields[n - 4]
  end
  local found = call('HMGET', extra, unpack(lists))
  for i, id in ipairs(ids) do
    local names, at = found[2 * i - 1] or '', 1
    while at <= #names do
      local name
      name, at = parse('<I2c0', names, at)
      call('HDEL', extra, 's' .. id .. name)
    end
    if found[2 * i] then call('ZREMRANGEBYLEX', holders, '[b' .. id, '[b' .. id .. '\255') end
  end
  call('HDEL', extra, unpack(fields))
end

-- Keep what went wrong in an attempt, of the latest 20.
local function add_attempt(id, attempt)
  local former = call('HGET', extra, 'a' .. id) or ''
  local at, starts = 1, {}
  while at <= #former do
    starts[#starts + 1] = at
    local _, size = parse('<dI4', former, at)
    at = at + 12 + size
  end
  if #starts >= 20 then former = sub(former, starts[#starts - 18]) end
  call('HSET', extra, 'a' .. id, former .. pack('<dI4', now, #attempt) .. attempt)
end

local function insert_one(id, record, at)
  local _, _, _, _, _, _, value, entry = header(record)
  call('HSET', job, id, record)
  if value ~= '' then call('HSET', unique, value, id) end
  if entry ~= '' then call('ZADD', holders, 0, 'e' .. digest_of(entry) .. id) end
  if at > now then call('ZADD', due, exact(at), id) else place(id, record) end
end

-- Let a new job take the place of one that is as unique and waits; return whether it is a job of its
-- own instead, as that one runs. Of another function, or key, that one stays as it is.
local function replace(twin, record, at)
  local flags, state = string.byte(record, 21), state_of(twin)
  if math.floor(flags / 8) % 2 == 0 then return false end
  if state == RUNNING then return true end
  local former = call('HGET', job, twin)
  local partition, _, _, _, _, key = header(record)
  local of_former, _, _, _, _, former_key = header(former)
  if partition ~= of_former or key ~= former_key or batch_of(record) or batch_of(former) then
    return false
  end
  call('HSET', job, twin, sub(former, 1, 16) .. sub(record, 17))  -- but for priority and origin
  if math.floor(flags / 16) % 2 == 1 and state == SCHEDULED and call('ZSCORE', due, twin) ~= 'inf' then
    call('ZADD', due, exact(at < math.huge and at or now), twin)  -- it may wait for other jobs
  end
  return false
end

-- Submits of a call. ARGV: 5 their delays and 6 their bounds of the queue, or ''; from the 9th on,
-- records.

local twins, turned_away = {}, {}  -- number of the job, its twin, 1 if that is delayed; number
local is_alarmed = false  -- a job is due later, perhaps before all others

-- Insert some jobs of a process; return the first id.
local function insert(count, me)
  local first = take_ids(count)
  local id, jobs, places, waiting, scores = first, {}, {}, nil, {}
  local function flush()
    if #jobs > 0 then call('HSET', job, unpack(jobs)); call('ZADD', queue, unpack(places)) end
    jobs, places = {}, {}
  end
  for i = 1, count do
    local record = ARGV[8 + i]
    local delay = ARGV[5] ~= '' and parse('<d', ARGV[5], i * 8 - 7) or 0
    local most = ARGV[6] ~= '' and parse('<d', ARGV[6], i * 8 - 7) or -1
    local partition, priority, origin, _, flags, key, value, entry =
      parse('<I4i4dI4BI2I2I2', record)
    if key + value + entry == 0 and delay <= 0 and most < 0 and flags < FAIR and not has_turns then
      local n = #jobs
      jobs[n + 1], jobs[n + 2] = id_text(id), record
      local score = partition * PARTITION + HIGHEST - priority
      scores[score] = scores[score] or text(score)
      places[n + 1], places[n + 2] = scores[score], jobs[n + 1]
      if not queued[partition] then partitions_queued[#partitions_queued + 1] = partition end
      queued[partition] = (queued[partition] or 0) + 1
      id = id + 1
      if n > 1000 then flush() end
    else
      local twin = value > 0 and call('HGET', unique, (select(7, header(record))))
      if twin and replace(twin, record, now + delay) then twin = nil end
      if twin then
        is_alarmed = is_alarmed or delay > 0
        local is_delayed = call('ZSCORE', due, twin) and 1 or 0
        twins[#twins + 1], twins[#twins + 2], twins[#twins + 3] = i, twin, is_delayed
        local _, _, first_origin = header(call('HGET', job, twin))
        if origin ~= 0 and origin ~= first_origin then add_watcher(twin, origin) end
      else
        if most >= 0 then
          flush()
          waiting = call('ZCARD', queue) + call('ZCARD', due) + call('ZCARD', parked)
        end
        if most >= 0 and waiting >= most then
          call('SADD', room, me)
          turned_away[#turned_away + 1] = i
        else
          insert_one(id_text(id), record, now + delay)
          is_alarmed = is_alarmed or delay > 0
          id = id + 1
        end
      end
    end
  end
  flush()
  return first
end

-- Entries. One is a table, packed by cmsgpack; its numbers are texts.

local function read_entry(name)
  local entry = cmsgpack.unpack(call('HGET', entries, name))
  return {name, entry.partition, entry.rule, entry.tick, entry.payload, entry.paused, entry.fired,
    entry.missed, entry.last_tick, entry.last_job}
end
