-- Run no more jobs of the pool. ARGV: 2 caller.
local is_over, former = begin()
if is_over then return former end
local me = text(process)
call('ZREM', hungry, '', unpack(places_of(me)))
call('SREM', spare, me)
call('ZREMRANGEBYSCORE', known, me, me)
call('HSET', members, me, '')
review_partitions()
wake_consumers()  -- this process may have been woken in place of another one
return answer(1)
