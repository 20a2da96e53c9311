-- Delete jobs that are not claimed. ARGV: 2 caller; ids. Returns how many.
local is_over, former = begin()
if is_over then return former end
process = nil  -- the caller may be hungry itself
local gone = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local record = call('HGET', job, id)
  local state = record and state_of(id) or RUNNING
  if state ~= RUNNING then
    if state < SUCCEEDED then cancel_waiting(id, record) end
    call('ZREM', ended, id)
    gone[#gone + 1] = id
    if #gone % 500 == 0 then erase({unpack(gone, #gone - 499)}) end
  end
end
erase({unpack(gone, #gone - #gone % 500 + 1)})
wake_for_jobs()
return answer(#gone)
