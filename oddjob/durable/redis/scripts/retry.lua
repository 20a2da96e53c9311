-- Queue jobs again that have failed or were canceled, and scheduled ones at once.
-- ARGV: 2 caller; ids. Returns how many.
local is_over, former = begin()
if is_over then return former end
process = nil  -- the caller may be hungry itself
local count = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local record = call('HGET', job, id)
  local state = record and state_of(id)
  local is_over = state == FAILED or state == CANCELLED
  if state == SCHEDULED or is_over then
    local _, _, _, _, _, _, value, entry = header(record)
    local may = true
    if is_over and value ~= '' then may = call('HSETNX', unique, value, id) == 1 end
    if may then
      if is_over then  -- nobody waits for it any more
        record = sub(record, 1, 8) .. pack('<d', 0) .. sub(record, 17)
        call('HSET', job, id, record)
        if entry ~= '' then call('ZADD', holders, 0, 'e' .. digest_of(entry) .. id) end
      end
      call('HDEL', outcomes, id)
      call('HDEL', tries, id)
      call('ZREM', ended, id)
      call('ZREM', due, id)
      place(id, record)
      count = count + 1
    end
  end
end
wake_for_jobs()
return answer(count)
