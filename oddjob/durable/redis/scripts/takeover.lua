-- Put back up to 200 claims of a dead process; called until there are none left.
-- KEYS 28 is the dead one's. ARGV: 2 its number; 3 its claims that had begun, id and token in 24
-- bytes each, or 'all'; 4 deaths after which a job fails. Returns the claims that it found.
local dead, begun, allowed = ARGV[2], {}, tonumber(ARGV[4])
if call('HEXISTS', members, dead) == 0 then return 0 end
call('DEL', mine)
call('HSET', mine, 'nonce', '')  -- from here on its calls are refused, should it be alive
call('EXPIRE', mine, 86400)
if ARGV[3] ~= 'all' then
  for at = 1, #ARGV[3], 24 do
    local id, token = parse('<c16d', ARGV[3], at)
    begun[id .. text(token)] = true
  end
end
local from = dead * SHARE
local to = text(from + SHARE - 1)
local claims = call('ZRANGEBYSCORE', run, text(from), to, 'WITHSCORES', 'LIMIT', 0, 200)
local tokens = {}
for i = 1, #claims, 2 do
  local id, token = claims[i], text(tonumber(claims[i + 1]))
  local record = call('HGET', job, id)
  local partition, priority, origin = header(record)
  tokens[tonumber(token)] = true
  call('ZREM', run, id)
  if call('ZREM', busy, id) == 1 then is_released = true end
  local has_begun = ARGV[3] == 'all' or begun[id .. token]
  local tried = has_begun and call('HINCRBY', tries, id, 1) or tried_of(id)
  if has_begun and tried % 1000 >= allowed then
    local why = 'JobLost: ' .. tried % 1000 .. ' processes died while they ran this job'
    local claimed_at = tonumber(call('HGET', times, token) or 0)
    finish(id, FAILED, claimed_at, tried, '', why)
    tell(id, FAILED, '', why, origin)
    let_go(id, record, FAILED)
  elseif call('SISMEMBER', stopped, id) == 1 then
    cancel_waiting(id, record)
  else
    enqueue(id, partition, priority)
  end
end
forget_times(tokens)
follow_ends()
wake_for_jobs()
if #claims < 400 then
  call('ZREM', hungry, '', unpack(places_of(dead)))
  call('HDEL', members, dead)
  call('SREM', spare, dead)
  call('SREM', room, dead)
  call('ZREMRANGEBYSCORE', known, dead, dead)
  call('ZREMRANGEBYSCORE', news, text(from), to)
  review_partitions()
  wake_members()  -- the dead one may have been woken in place of them
  wake(dead)  -- it may be alive after all, and is to join again
end
return #claims / 2
