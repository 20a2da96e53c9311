-- Make a process a member of the pool; its lease and its place among the processes are in order.
-- ARGV: 2 caller, 3 name of the pool. Returns all of `meta`, or nil if it was taken over.
local nonce, number_of = parse('<c8d', ARGV[2])
local known_as = call('HGET', mine, 'nonce')
if known_as and known_as ~= nonce then return false end
if not known_as then
  call('HSET', mine, 'nonce', nonce, 'number', '0')
  call('ZADD', run, 0, FILLER)
  call('HSET', meta, 'pool', ARGV[3])
  call('HINCRBY', meta, 'member', 1)
  wake_members()  -- they are to watch it
  call('HSET', members, text(number_of), '')
end
return call('HGETALL', meta)
