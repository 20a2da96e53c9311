-- Delete jobs that are not claimed; of a batch, all members, if none is claimed. ARGV: 2 caller; ids.
-- Returns how many of these.
local is_over, former = begin()
if is_over then return former end
process = nil  -- the caller may be hungry itself
links = workflow()
local gone, count = {}, 0

local function cancel(id)
  local record = call('HGET', job, id)
  if not record or state_of(id) >= SUCCEEDED then return end
  if is_of_batch(record) then
    for _, member in ipairs(links.members(id)) do cancel(member) end
  else
    cancel_waiting(id, record)
  end
end

local function is_running(id, record)
  local state = state_of(id)
  if state == SCHEDULED and is_of_batch(record) then
    for _, member in ipairs(links.members(id)) do
      local found = call('HGET', job, member)
      if found and is_running(member, found) then return true end
    end
  end
  return state == RUNNING
end

local function delete(id)
  local record = call('HGET', job, id)
  if not record or is_running(id, record) then return false end
  if state_of(id) < SUCCEEDED then
    cancel(id)
    follow_ends()
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
