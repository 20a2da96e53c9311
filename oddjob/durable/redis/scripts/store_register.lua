-- Register a process, or the pools that it has come to use.
-- ARGV: 2 number, 3 nonce, 4 what others are to know, 5 seconds of its lease, 6 1 if it is new;
-- names of its pools. Returns 0 if it was taken over.
local number = ARGV[2]
if ARGV[6] == '1' then
  call('ZADD', lease, exact(now + ARGV[5]), number)
elseif sub(call('HGET', members, number) or '', 1, 8) ~= ARGV[3] or
    tonumber(call('ZSCORE', lease, number) or 0) == 0 then
  return 0
end
call('HSET', members, number, ARGV[3] .. ARGV[4])
for i = 7, #ARGV do call('HSET', pools, ARGV[i], '') end
return 1
