-- Have no process claim jobs of the pool, or all of them again. ARGV: 2 caller, 3 1 or 0, 4 why.
local is_over, former = begin()
if is_over then return former end
process = nil  -- the caller may be hungry itself
if ARGV[3] == '1' then call('HSET', meta, 'paused', ARGV[4]) else call('HDEL', meta, 'paused') end
wake_consumers()
return answer(1)
