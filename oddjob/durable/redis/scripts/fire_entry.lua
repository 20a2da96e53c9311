-- Submit the jobs of an entry that is due, and move it to its next tick.
-- ARGV: 2 caller, 3 name, 4 tick that it was read with, 5 next tick, 6 ticks that were missed,
-- 7 1 if it overlaps with its jobs; records. Returns the ids, or -1: another process has moved it.
local is_over, former = begin()
if is_over then return former end
local name, packed = ARGV[3], call('HGET', entries, ARGV[3])
local entry = packed and cmsgpack.unpack(packed)
if not entry or entry.paused == '1' or tonumber(entry.tick) ~= tonumber(ARGV[4]) then
  return answer(-1)
end
local count, missed = #ARGV - 7, tonumber(ARGV[6])
if count > 0 and ARGV[7] ~= '1' then
  local digest = digest_of(name)
  if call('ZLEXCOUNT', holders, '[e' .. digest, '[e' .. digest .. '\255') > 0 then
    count, missed = 0, missed + 1
  end
end
entry.last_tick, entry.tick, entry.missed = entry.tick, ARGV[5], text(entry.missed + missed)
local ids = {}
if count > 0 then
  local first = take_ids(count)
  for i = 1, count do
    ids[i] = id_text(first + i - 1)
    insert_one(ids[i], ARGV[7 + i], 0)
  end
  entry.fired, entry.last_job = text(entry.fired + 1), ids[count]
end
call('HSET', entries, name, cmsgpack.pack(entry))
call('ZADD', ticks, entry.tick, entry.partition .. ':' .. name)
process = nil  -- the caller may be hungry itself
wake_for_jobs()
return answer(ids)
