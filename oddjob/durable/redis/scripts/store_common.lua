-- What every script on the whole store begins with. Its keys have the hash tag of the prefix.
--
--  1 meta     HASH  id: of the store, random; process: number of the newest process
--  2 members  HASH  process -> 8 bytes of nonce, then what others are to know of it, as JSON
--  3 lease    ZSET  process; score = end of its lease; 0: its jobs are being taken over
--  4 pools    HASH  pool -> ''
--
-- ARGV 1 is the prefix of the channels on which processes are woken.
local meta, members, lease, pools = unpack(KEYS, 1, 4)
local call, sub = redis.call, string.sub
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local function exact(number) return string.format('%.17g', number) end
