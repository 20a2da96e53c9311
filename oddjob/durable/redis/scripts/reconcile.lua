-- Put back claims of the caller that it does not hold. A server that comes back without its latest
-- data has forgotten what became of them. ARGV: 2 caller; ids that it holds. Returns how many.
local is_over, former = begin()
if is_over then return former end
local held, tokens, count, from = {}, {}, 0, process * SHARE
for i = 3, #ARGV do held[ARGV[i]] = true end
local claims = call('ZRANGEBYSCORE', run, text(from), text(from + SHARE - 1), 'WITHSCORES')
for i = 1, #claims, 2 do
  local id = claims[i]
  if not held[id] then
    local record = call('HGET', job, id)
    local partition, priority = header(record)
    tokens[tonumber(claims[i + 1])] = true
    count = count + 1
    call('ZREM', run, id)
    if call('ZREM', busy, id) == 1 then is_released = true end
    if call('SISMEMBER', stopped, id) == 1 then
      cancel_waiting(id, record)
    else
      enqueue(id, partition, priority)
    end
  end
end
forget_times(tokens)
follow_ends()
wake_for_jobs()
return answer(count)
