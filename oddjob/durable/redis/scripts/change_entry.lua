-- Pause an entry, let it go on, or delete it. ARGV: 2 caller, 3 name, 4 pause, resume or delete.
-- Returns 2 if there is one, else 1.
local is_over, former = begin()
if is_over then return former end
local name, packed = ARGV[3], call('HGET', entries, ARGV[3])
if not packed then return answer(1) end
local entry = cmsgpack.unpack(packed)
local place = entry.partition .. ':' .. name
call('ZREM', ticks, place)
if ARGV[4] == 'delete' then
  call('HDEL', entries, name)
else
  entry.paused = ARGV[4] == 'pause' and '1' or '0'
  call('HSET', entries, name, cmsgpack.pack(entry))
  if entry.paused == '0' then call('ZADD', ticks, entry.tick, place) end
end
wake_consumers()
return answer(2)
