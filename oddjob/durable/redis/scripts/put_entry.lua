-- Declare a recurring entry. ARGV: 2 caller, 3 name, 4 partition, 5 rule, 6 tick, 7 payload.
local is_over, former = begin()
if is_over then return former end
local name, packed = ARGV[3], call('HGET', entries, ARGV[3])
local entry = packed and cmsgpack.unpack(packed)
if not entry then
  entry = {tick = ARGV[6], fired = '0', missed = '0', last_tick = '', last_job = '', paused = '0'}
else
  call('ZREM', ticks, entry.partition .. ':' .. name)
  if entry.rule ~= ARGV[5] then
    local earliest = entry.last_tick ~= '' and entry.last_tick + 0.001 or 0
    entry.tick = tonumber(ARGV[6]) >= earliest and ARGV[6] or exact(earliest)
  end
end
entry.partition, entry.rule, entry.payload = ARGV[4], ARGV[5], ARGV[7]
call('HSET', entries, name, cmsgpack.pack(entry))
if entry.paused == '0' then call('ZADD', ticks, entry.tick, entry.partition .. ':' .. name) end
wake_consumers()
return answer(1)
