-- Delete jobs that are not claimed; of a batch, all members, if none is claimed. ARGV: 2 caller; ids.
-- Returns how many of these.
local is_over, former = begin()
if is_over then return former end
process = nil  -- the caller may be hungry itself
links = workflow()
local gone, count = {}, 0

local function cancel(id)
  local record = call('HGET', job, id)
  local state = record and state_of(id) or CANCELLED
  if state == RUNNING then
    call('SADD', stopped, id)
    add_news(text(math.floor(call('ZSCORE', run, id) / SHARE)), id, RUNNING, '', '')
  elseif state < SUCCEEDED and is_of_batch(record) then
    for _, member in ipairs(links.members(id)) do cancel(member) end
  elseif state < SUCCEEDED then
    cancel_waiting(id, record)
  end
end

local function delete(id)
  local record = call('HGET', job, id)
  local state = record and state_of(id) or RUNNING
  if state == RUNNING then return false end
  if state < SUCCEEDED then
    cancel(id)
    follow_ends()
    if state_of(id) < SUCCEEDED then return false end  -- members of it are claimed
  end
  if is_of_batch(record) then
    for _, member in ipairs(links.members(id)) do delete(member) end
  end
  call('ZREM', ended, id)
  gone[#gone + 1] = id
  if #gone == 500 then
    erase(gone)
    gone = {}
  end
  return true
end

for i = 3, #ARGV do if delete(ARGV[i]) then count = count + 1 end end
erase(gone)
follow_ends()
wake_for_jobs()
return answer(count)
