-- Begin to take over a process: it is refused from now on, and seen as expired until it is removed.
-- ARGV: 2 number. Returns what is known of it, or false.
local known = call('HGET', members, ARGV[2])
if known then call('ZADD', lease, 0, ARGV[2]) end
return known
