-- One turn of a process in a pool: update claims, insert jobs, open what is due, claim, read news.
-- ARGV: 2 caller; 3 header; 4 updates, 50 bytes each; 5 delays and 6 bounds of the queue, of the
-- submits, or ''; 7 partitions; 8 names of limiters, whose starts are in KEYS 29 ...; the records
-- of the submits; their links, if any is linked; then what belongs to the updates, in their order.
local is_over, former = begin()
if is_over and not former then return false end
local idle, limit, flags, newest_partition, update_count, submit_count =
  parse('<i4i4BI4I4I4', ARGV[3])
local is_consumer_here, has_spare, are_linked = flags % 2 == 1, flags % 4 >= 2, flags >= 4
local facts = call('HMGET', meta, 'partition', 'member', 'paused', 'failing')
if not former and is_consumer_here and tonumber(facts[1] or 0) ~= newest_partition then
  return 1  -- nothing is done: there are partitions that the caller has not heard of
end
local me, token = text(process), text(process * SHARE + number % SHARE)
local refused, first, claimed, opens_in = {}, 0, {}, nil

-- Partitions that this process may claim from, each with the places of its limiters.
local partitions, limiters_of, names = {}, {}, {}
do
  local at = 1
  while at <= #ARGV[7] do
    local partition, count
    partition, count, at = parse('<I4I2', ARGV[7], at)
    local mine_of = {}
    for i = 1, count do mine_of[i], at = parse('<I2', ARGV[7], at) end
    partitions[#partitions + 1], limiters_of[partition] = partition, mine_of
  end
  at = 1
  while at <= #ARGV[8] do names[#names + 1], at = parse('<I2c0', ARGV[8], at) end
end

local lowest, highest = process * SHARE, process * SHARE + SHARE - 1  -- tokens of this process
local argument = 8 + submit_count + (are_linked and 1 or 0)
local function next_argument() argument = argument + 1; return ARGV[argument] end

local ended_scores = {}
for _, state in ipairs({SUCCEEDED, FAILED, CANCELLED}) do
  ended_scores[state] = text(state * STATE + math.floor(now * 1000))
end

local batch  -- of the latest update of a job that has one

-- Make the updates from one number to another: so few that their ids can be arguments of one call.
local function update(from, to)
  local ids = {}
  for i = from, to do ids[#ids + 1] = sub(ARGV[4], i * 50 - 49, i * 50 - 34) end
  local scores = call('ZMSCORE', run, unpack(ids))
  local is_watched, has_tries = call('HLEN', watch) > 0, call('HLEN', tries) > 0
  local has_stopped = call('SCARD', stopped) > 0
  local gone, freed, kept, over, forgotten, tokens = {}, {}, {}, {}, {}, {}
  for i = from, to do
    local id = ids[i - from + 1]
    local held, state, how, origin, delay, started = parse('<dBBddd', ARGV[4], i * 50 - 33)
    -- how: 1 look at the record; then follow 2 an outcome, 4 an error, 8 an attempt; 16 forget it;
    -- 32 its partition has limiters; 64 it has a batch, 128 whose id follows
    local outcome, error, attempt = '', '', nil
    if how % 16 > 1 then
      if math.floor(how / 2) % 2 == 1 then outcome = next_argument() end
      if math.floor(how / 4) % 2 == 1 then error = next_argument() end
      if math.floor(how / 8) % 2 == 1 then attempt = next_argument() end
    end
    if how >= 128 then batch = next_argument() end
    if tonumber(scores[i - from + 1]) ~= held or held < lowest or held > highest or gone[id] then
      refused[#refused + 1] = i
    elseif state == RUNNING then
      call('HSET', extra, 'p' .. id, outcome)
    else
      gone[id], tokens[held] = true, true
      local is_waiting = state == QUEUED or state == SCHEDULED
      local record = (how % 2 == 1 or is_waiting) and call('HGET', job, id)
      if record then call('ZREM', run, id) else freed[#freed + 1] = id end
      if math.floor(how / 32) % 2 == 1 then call('ZREM', busy, id); is_released = true end
      if attempt then add_attempt(id, attempt) end
      local tried = has_tries and tried_of(id) or 0
      if state ~= QUEUED then tried = tried + 1000 end
      if is_waiting and has_stopped and call('SISMEMBER', stopped, id) == 1 then
        if state == SCHEDULED then call('HSET', tries, id, tried) end
        cancel_waiting(id, record)
      elseif state == QUEUED then
        local partition, priority = header(record)
        enqueue(id, partition, priority)
      elseif state == SCHEDULED then
        call('HSET', tries, id, tried)
        has_tries = true
        note_outcome(id, state, 0, started, tried, outcome, error)
        call('ZADD', due, exact(now + delay), id)
        is_alarmed = true
        local _, _, _, _, is_serial, key = header(record)
        if key ~= '' and not is_serial then let_key_go(id, key) end
      else
        if how >= 16 and math.floor(how / 16) % 2 == 1 then
          forgotten[#forgotten + 1] = id
        else
          kept[#kept + 1] = id
          kept[#kept + 1] = outcome_of(state, now, started, tried, outcome, error)
          over[#over + 1] = ended_scores[state]
          over[#over + 1] = id
        end
        if has_tries then call('HDEL', tries, id) end
        if has_turns then call('HDEL', turns, id) end
        if has_stopped then call('SREM', stopped, id) end
        if record then
          let_go(id, record, state)
        elseif how >= 64 then
          note_member(batch, state)
        end
        if is_watched or (origin ~= 0 and origin ~= process) then
          tell(id, state, outcome, error, origin, process)
        end
      end
    end
  end
  if #freed > 0 then call('ZREM', run, unpack(freed)) end
  if #kept > 0 then call('HSET', outcomes, unpack(kept)); call('ZADD', ended, unpack(over)) end
  follow_ends()
  erase(forgotten)
  forget_times(tokens)
end

local function open_due()
  for _, id in ipairs(call('ZRANGEBYSCORE', due, '-inf', exact(now), 'LIMIT', 0, 200)) do
    call('ZREM', due, id)
    place(id, call('HGET', job, id))
  end
end

-- Take the first jobs of partitions from the queue: the chosen ones.
local function take(counts)
  if #claimed == 0 then return end
  for partition, count in pairs(counts) do
    local rank = call('ZCOUNT', queue, '-inf', '(' .. text(partition * PARTITION))
    call('ZREMRANGEBYRANK', queue, rank, rank + count - 1)
  end
  local claims = {}
  for i, id in ipairs(claimed) do claims[2 * i - 1], claims[2 * i] = token, id end
  call('ZADD', run, unpack(claims))
  call('HSET', times, token, exact(now))
  wake_for_room()
end

-- Claim from several partitions, those that are `open`, in turns or within limits. (Its functions are
-- made only when it is called.)
local function claim_within_limits(open)
  -- How many more jobs the limiters allow to start, and how many have started.
  local left, rates, taken = {}, {}, {}

  -- Return how many starts a rate allows now, and the seconds until it allows one. In no window of
  -- a period there are more than `starts` of them, and each costs a token: there are up to `burst`,
  -- and `starts` new ones in a period.
  local function read_rate(place, starts, period, burst)
    local key = KEYS[28 + place]
    local ahead = call('ZRANGEBYSCORE', key, '(' .. exact(now), '+inf')  -- the clock was set back
    for _, start in ipairs(ahead) do call('ZADD', key, exact(now), start) end
    call('ZREMRANGEBYSCORE', key, '-inf', exact(now - period))
    local oldest = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    local number_left = starts - call('ZCARD', key)
    local tokens, packed = burst, call('HGET', times, 'r' .. names[place])
    if packed then
      local before, counted = parse('<dd', packed)
      tokens = math.min(burst, before + math.max(0, now - counted) * starts / period)
    end
    local opens = 0
    if number_left <= 0 then opens = tonumber(oldest) + period - now end
    if tokens < 1 - 1e-9 then opens = math.max(opens, (1 - tokens) * period / starts) end
    rates[place] = {period = period, tokens = tokens, opens = opens}
    return math.min(number_left, math.floor(tokens + 1e-9))
  end

  local function read_limiters()
    for place, name in ipairs(names) do
      local most, starts, period, burst = parse('<dddd', call('HGET', meta, 'd' .. name))
      left[place], taken[place] = most, 0
      if most < 1e15 then
        for partition in string.gmatch(call('HGET', meta, 's' .. name) or '', '%d+') do
          left[place] = left[place] - call('ZCOUNT', busy, partition, partition)
        end
      end
      if starts > 0 then
        left[place] = math.min(left[place], read_rate(place, starts, period, burst))
      end
    end
  end

  local function allowed(partition)
    local most = 1e15
    for _, place in ipairs(limiters_of[partition]) do most = math.min(most, left[place]) end
    return most
  end

  local function is_rated(partition)
    for _, place in ipairs(limiters_of[partition]) do if rates[place] then return true end end
  end

  local function note_taken()
    for place, count in pairs(taken) do
      local rate = rates[place]
      if rate and count > 0 then
        local key = KEYS[28 + place]
        for i = 1, count do call('ZADD', key, exact(now), token .. ':' .. i) end
        call('PEXPIRE', key, math.ceil(rate.period * 1000) + 1000)
        call('HSET', times, 'r' .. names[place], pack('<dd', rate.tokens - count, now))
      end
    end
  end

  -- Note when the rates open that hold up queued jobs.
  local function note_openings()
    for _, partition in ipairs(partitions) do
      if is_rated(partition) and has_queued(partition) then
        local opens = 0
        for _, place in ipairs(limiters_of[partition]) do
          if rates[place] then opens = math.max(opens, rates[place].opens) end
        end
        if opens > 0 then opens_in = math.min(opens_in or opens, opens) end
      end
    end
  end

  local function is_before(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[2] < b[2] or a[2] == b[2] and a[3] < b[3]
  end

  -- Note that the claimed jobs wait no longer, and their latest turns, by inverted priority.
  local function start_turns(latest)
    local gone = {}
    for i, turn in ipairs(call('HMGET', turns, unpack(claimed))) do
      if turn then gone[#gone + 1] = line_place(claimed[i], turn) end
    end
    if #gone > 0 then call('ZREM', lines, unpack(gone)) end
    for inverted, turn in pairs(latest) do
      local level = 'l' .. HIGHEST - inverted
      if turn > tonumber(call('HGET', turns, level)) then
        call('HSET', turns, level, exact(turn))
      end
    end
  end

  -- Choose the jobs that are to be claimed, from the best one on; return how many of each
  -- partition: they are the first ones of it.
  local function choose()
    local counts, heads, latest = {}, {}, {}
    for _, partition in ipairs(open) do
      local most = math.min(limit, allowed(partition), is_rated(partition) and idle or limit)
      if most > 0 then
        local from = partition * PARTITION
        local found = call('ZRANGEBYSCORE', queue, from, from + PARTITION - 1, 'WITHSCORES',
          'LIMIT', 0, most)
        for i = 1, #found, 2 do
          local place = found[i]
          local turn = #place > 16 and parse('>d', place) or 0
          heads[#heads + 1] = {found[i + 1] - from, turn, sub(place, -16), partition}
        end
      end
    end
    table.sort(heads, is_before)
    local limited = {}
    for _, head in ipairs(heads) do
      local id, partition = head[3], head[4]
      if #claimed == limit then break end
      local is_spare = #claimed >= idle
      if allowed(partition) >= 1 and not (is_spare and is_rated(partition)) then
        claimed[#claimed + 1] = id
        if head[2] > 0 then latest[head[1]] = math.max(latest[head[1]] or 0, head[2]) end
        counts[partition] = (counts[partition] or 0) + 1
        for _, place in ipairs(limiters_of[partition]) do
          left[place], taken[place] = left[place] - 1, taken[place] + 1
        end
        if #limiters_of[partition] > 0 then
          limited[#limited + 1], limited[#limited + 2] = partition, id
        end
      end
    end
    note_taken()
    if #limited > 0 then call('ZADD', busy, unpack(limited)) end
    if has_turns and #claimed > 0 then start_turns(latest) end
    return counts
  end

  if #names > 0 then read_limiters() end
  take(choose())
  if #names > 0 then read_limiters(); note_openings() end
end

local function claim()
  if call('ZCARD', queue) == 0 then return end
  local open = partitions
  if #partitions > 1 and #names == 0 then
    open = {}
    for _, each in ipairs(partitions) do if has_queued(each) then open[#open + 1] = each end end
  end
  if #open == 0 then return end
  if #open > 1 or #names > 0 or has_turns then return claim_within_limits(open) end
  local from = open[1] * PARTITION
  claimed = limit > 0 and
    call('ZRANGEBYSCORE', queue, from, from + PARTITION - 1, 'LIMIT', 0, limit) or {}
  take({[open[1]] = #claimed})
end

-- Say whether this process could take more, so that others wake it, or hand it their spare claims.
local function note_hunger()
  local places = {}
  for i, partition in ipairs(partitions) do places[i] = partition .. ':' .. me end
  if #claimed < idle and #places > 0 then
    local args = {}
    for i, partition in ipairs(partitions) do
      args[2 * i - 1], args[2 * i] = partition, places[i]
    end
    if call('ZADD', hungry, unpack(args)) > 0 then
      for _, other in ipairs(call('SMEMBERS', spare)) do wake(other) end
    end
  elseif #places > 0 then
    call('ZREM', hungry, unpack(places))
  end
  if has_spare or #claimed > idle then call('SADD', spare, me) else call('SREM', spare, me) end
end

local function has_hungry_peers()
  if call('ZCARD', hungry) == 0 then return false end
  for _, partition in ipairs(partitions) do
    for _, place in ipairs(call('ZRANGEBYSCORE', hungry, partition, partition, 'LIMIT', 0, 2)) do
      if place ~= partition .. ':' .. me then return true end
    end
  end
  return false
end

if former then
  refused, first, twins, turned_away, opens_in = unpack(former)
  opens_in = opens_in and tonumber(opens_in)
  first = tonumber(first)
  claimed = former[6] or call('ZRANGEBYSCORE', run, token, token)
  if not former[6] then  -- there were no turns
    local priorities = {}
    for _, id in ipairs(claimed) do
      local _, priority = header(call('HGET', job, id))
      priorities[id] = priority
    end
    table.sort(claimed, function(a, b)
      return priorities[a] > priorities[b] or priorities[a] == priorities[b] and a < b
    end)
  end
else
  if own[4] then  -- what was read last has arrived
    call('ZREMRANGEBYSCORE', news, text(process * SHARE), own[4])
    call('HDEL', mine, 'news')
  end
  local next_before = not is_consumer_here and call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
  if facts[4] then fail_lines(cmsgpack.unpack(facts[4])); follow_ends() end
  for i = 1, update_count, 500 do update(i, math.min(i + 499, update_count)) end
  if submit_count > 0 then first = insert(submit_count, me) end
  if are_linked then
    links = links or workflow()
    links.link(submit_count, first, ARGV[9 + submit_count])
  end
  if is_consumer_here then
    open_due()
    if not facts[3] then claim() end
    note_hunger()
  elseif is_alarmed then
    wake_for_alarm(next_before)
  end
  local more = {}
  if is_consumer_here and #claimed >= idle then
    for i, partition in ipairs(partitions) do more[i] = partition end
  end
  wake_for_jobs(more)
  answer({refused, text(first), twins, turned_away, opens_in and exact(opens_in) or false,
    has_turns and claimed})
end

local records, attempts = {}, {}
if #claimed > 0 then
  records = call('HMGET', job, unpack(claimed))
  if call('HLEN', tries) > 0 then attempts = call('HMGET', tries, unpack(claimed)) end
end
local from = process * SHARE
local mail = call('ZRANGEBYSCORE', news, text(from), text(from + SHARE - 1), 'WITHSCORES',
  'LIMIT', 0, 500)
if #mail > 0 then call('HSET', mine, 'news', mail[#mail]) end

-- What comes next: a job that is due, a rate that opens, the tick of an entry.
local due_entries, next_tick, next_due = {}, nil, nil
if is_consumer_here then
  next_due = call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
  local at = 0
  repeat
    local page = call('ZRANGE', ticks, at, at + 99, 'WITHSCORES')
    for i = 1, #page, 2 do
      local partition, name = string.match(page[i], '^(%d+):(.*)$')
      if limiters_of[tonumber(partition)] then
        if tonumber(page[i + 1]) <= now then
          due_entries[#due_entries + 1] = read_entry(name)
        else
          next_tick = page[i + 1]
          break
        end
      end
    end
    at = at + 100
  until next_tick or #page < 200
end
local look = math.min(next_due and next_due - now or 1e300, opens_in or 1e300,
  next_tick and next_tick - now or 1e300)
if #mail >= 1000 or is_failing then look = 0 end
return {exact(now), refused, text(first), twins, turned_away, claimed, records, attempts, mail,
  due_entries, look < 1e300 and exact(math.max(0, look)) or '', has_hungry_peers() and 1 or 0,
  call('SISMEMBER', room, me), call('HGETALL', stranded), facts[2] or '0'}
