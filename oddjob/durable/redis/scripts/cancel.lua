-- Cancel jobs that wait, ask the owners of claimed ones to stop them; of a batch, all members.
-- ARGV: 2 caller; ids. Returns how many of these.
local is_over, former = begin()
if is_over then return former end
local me, count = process, 0
process = nil  -- the caller may be hungry itself
links = workflow()

local function cancel(id)
  local record = call('HGET', job, id)
  local state = record and state_of(id) or CANCELLED
  if state == RUNNING then
    call('SADD', stopped, id)
    add_news(text(math.floor(call('ZSCORE', run, id) / SHARE)), id, RUNNING, '', '')
  elseif state < SUCCEEDED then
    if not is_of_batch(record) then
      cancel_waiting(id, record)
      return true
    end
    local is_any = false
    for _, member in ipairs(links.members(id)) do is_any = cancel(member) or is_any end
    return is_any
  end
  return state == RUNNING
end

for i = 3, #ARGV do if cancel(ARGV[i]) then count = count + 1 end end
follow_ends()
wake_for_jobs()
return answer(count)
