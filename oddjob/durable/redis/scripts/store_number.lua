-- Draw the number of a process. ARGV: 2 a random id for the store, if it is new.
-- Returns the number, the id of the store, and the time.
call('HSETNX', meta, 'id', ARGV[2])
-- A process that lost its lease, as when the key was deleted by hand, is taken over, or renews it.
for _, other in ipairs(call('HKEYS', members)) do call('ZADD', lease, 'NX', exact(now), other) end
return {call('HINCRBY', meta, 'process', 1), call('HGET', meta, 'id'), exact(now)}
