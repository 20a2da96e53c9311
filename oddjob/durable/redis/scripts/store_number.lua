-- Draw the number of a process. ARGV: 2 a random id for the store, if it is new.
-- Returns the number, the id of the store, and the time.
call('HSETNX', meta, 'id', ARGV[2])
-- A process that lost its lease, as when the key was deleted by hand, is taken over, or renews it.
for _, other in ipairs(call('HKEYS', members)) do call('ZADD', lease, 'NX', exact(now), other) end
-- Tokens have numbers of processes in their high bits, and are exact as doubles up to 2^53: numbers
-- begin anew before 2^21.
local number = tonumber(call('HGET', meta, 'process') or 0)
repeat number = number % 2097151 + 1 until call('HEXISTS', members, number) == 0
call('HSET', meta, 'process', number)
return {number, call('HGET', meta, 'id'), exact(now)}
