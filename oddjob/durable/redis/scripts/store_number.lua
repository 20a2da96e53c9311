-- Draw the number of a process. ARGV: 2 a random id for the store, if it is new.
-- Returns the number, the id of the store, and the time.
call('HSETNX', meta, 'id', ARGV[2])
return {call('HINCRBY', meta, 'process', 1), call('HGET', meta, 'id'), exact(now)}
