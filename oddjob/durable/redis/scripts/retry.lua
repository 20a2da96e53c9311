-- Queue jobs again that have failed or were canceled, and scheduled ones at once; of a batch, its
-- members. A job that waits for others goes on waiting. ARGV: 2 caller; ids. Returns how many.
local is_over, former = begin()
if is_over then return former end
process = nil  -- the caller may be hungry itself
links = workflow()
local count = 0

local function retry(id)
  local record = call('HGET', job, id)
  local state = record and state_of(id)
  if record and is_of_batch(record) then
    local unsuccessful, is_any = {}, false  -- before any is retried, and lets others wait again
    for _, member in ipairs(links.members(id)) do
      local of_member = state_of(member)
      if of_member == FAILED or of_member == CANCELLED then
        unsuccessful[#unsuccessful + 1] = member
      end
    end
    for _, member in ipairs(unsuccessful) do is_any = retry(member) or is_any end
    return is_any
  end
  local has_ended = state == FAILED or state == CANCELLED
  if not has_ended and (state ~= SCHEDULED or call('ZSCORE', due, id) == 'inf') then return false end
  if has_ended then
    local waits = links.wait_again(id)
    if waits ~= nil then return waits end
    local _, _, _, _, _, _, value, entry = header(record)
    if value ~= '' and call('HSETNX', unique, value, id) == 0 then return false end
    record = sub(record, 1, 8) .. pack('<d', 0) .. sub(record, 17)  -- nobody waits for it any more
    call('HSET', job, id, record)
    if entry ~= '' then call('ZADD', holders, 0, 'e' .. digest_of(entry) .. id) end
  end
  call('HDEL', outcomes, id)
  call('HDEL', tries, id)
  call('ZREM', ended, id)
  call('ZREM', due, id)
  place(id, record)
  if has_ended then links.resumed(id, state, record) end
  return true
end

for i = 3, #ARGV do if retry(ARGV[i]) then count = count + 1 end end
follow_ends()
wake_for_jobs()
return answer(count)
