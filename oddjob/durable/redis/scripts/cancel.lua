-- Cancel jobs that wait, ask the owners of claimed ones to stop them. ARGV: 2 caller; ids.
-- Returns how many.
local is_over, former = begin()
if is_over then return former end
local me, count = process, 0
process = nil  -- the caller may be hungry itself
for i = 3, #ARGV do
  local id = ARGV[i]
  local record = call('HGET', job, id)
  local state = record and state_of(id) or CANCELLED
  if state == RUNNING then
    call('SADD', stopped, id)
    add_news(text(math.floor(call('ZSCORE', run, id) / SHARE)), id, RUNNING, '', '')
    count = count + 1
  elseif state < SUCCEEDED then
    cancel_waiting(id, record)
    count = count + 1
  end
end
wake_for_jobs()
return answer(count)
