-- Renew the lease of a process. ARGV: 2 number, 3 nonce, 4 seconds.
-- Returns 0 if it was taken over; else the number of the newest process, and up to 8 expired ones.
local number = ARGV[2]
if sub(call('HGET', members, number) or '', 1, 8) ~= ARGV[3] or
    tonumber(call('ZSCORE', lease, number) or 0) == 0 then
  return 0
end
call('ZADD', lease, exact(now + ARGV[4]), number)
local expired = call('ZRANGEBYSCORE', lease, '-inf', exact(now), 'LIMIT', 0, 8)
return {call('HGET', meta, 'process'), expired}
