-- Fail jobs whose function no process has known for some time; 500 of each partition at most.
-- ARGV: 2 caller, 3 seconds, then partitions. Returns the seconds until the next look, as a text.
local is_over, former = begin()
if is_over then return former end
local after, look, names, all = tonumber(ARGV[3]), 1e300, {}, call('HGETALL', meta)
for i = 1, #all, 2 do
  local fn = function_of(all[i])
  if fn then names[all[i + 1]] = fn end
end
local pool = call('HGET', meta, 'pool')
for i = 4, #ARGV do
  local partition, since = ARGV[i], call('HGET', stranded, ARGV[i])
  local next_due = since and since + after or 1e300
  if next_due <= now then
    next_due = 1e300
    local from = partition * PARTITION
    local why = "UnknownFunction: for " .. ARGV[3] .. " s, no process that runs jobs of pool '" ..
      pool .. "' has known " .. (names[partition] or '?') ..
      ': start one that imports its module, and retry the job'
    local first = call('ZRANGEBYSCORE', queue, from, from + PARTITION - 1, 'LIMIT', 0, 500)
    for _, place in ipairs(first) do
      local id = sub(place, -16)
      local created = tonumber(id) / 1000000
      if created + after <= now then
        local record = call('HGET', job, id)
        local _, _, origin = header(record)
        call('ZREM', queue, place)
        finish(id, FAILED, 0, tried_of(id), '', why)
        tell(id, FAILED, '', why, origin)
        let_go(id, record, FAILED)
        if #first == 500 then next_due = now end
      else
        next_due = math.min(next_due, created + after)
      end
    end
  end
  look = math.min(look, next_due - now)
end
wake_for_room()
follow_ends()
wake_for_jobs()
return answer(look < 1e300 and exact(math.max(0, look)) or '')
