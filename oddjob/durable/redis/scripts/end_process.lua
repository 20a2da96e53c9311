-- Ask a process to end, if it runs jobs of the pool. ARGV: 2 caller, 3 its number.
local is_over, former = begin()
if is_over then return former end
if not is_consumer(call('HGET', members, ARGV[3])) then return answer(0) end
add_news(ARGV[3], '0000000000000000', RUNNING, '', '')
return answer(1)
