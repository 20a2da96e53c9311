-- Have news of the end of a job, if it has not ended. ARGV: 2 caller, 3 id.
local is_over, former = begin()
if is_over then return former end
local id = ARGV[3]
if call('HEXISTS', job, id) == 1 and state_of(id) < SUCCEEDED then add_watcher(id, process) end
return answer(1)
