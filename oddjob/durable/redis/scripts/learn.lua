-- Run jobs of functions, or of partitions that are new. ARGV: 2 caller; functions that are new.
-- Returns all of `meta`.
local is_over, former = begin()
if is_over then return former and call('HGETALL', meta) end
local me = text(process)
call('ZREM', hungry, '', unpack(places_of(me)))
local mine_of = {}
for _, place in ipairs(call('ZRANGEBYSCORE', known, me, me)) do
  mine_of[string.match(place, '^(.*)%z')] = true
end
for i = 3, #ARGV do
  mine_of[ARGV[i]] = true
  call('ZADD', known, me, ARGV[i] .. '\0' .. me)
end
local all, partitions = call('HGETALL', meta), '*'
for i = 1, #all, 2 do
  if mine_of[function_of(all[i])] then partitions = partitions .. ' ' .. all[i + 1] end
end
local is_new = not is_consumer(call('HGET', members, me))
call('HSET', members, me, partitions)
if is_new then call('DEL', stranded) end
review_partitions()
answer(1)
return all
