-- Change when scheduled jobs are due, but for those that wait for others.
-- ARGV: 2 caller; id and delay of each, in seconds. Returns how many.
local is_over, former = begin()
if is_over then return former end
process = nil  -- the caller may be hungry itself
local count = 0
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local at = call('ZSCORE', due, id)
  if at and at ~= 'inf' then
    call('ZADD', due, exact(now + ARGV[i + 1]), id)
    count = count + 1
  end
end
wake_for_alarm()
return answer(count)
