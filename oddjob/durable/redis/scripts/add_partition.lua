-- Store a partition, and what its limiters allow; return its number.
-- ARGV: 2 caller, 3 function, 4 names of limiters as a text; then for each its name, and 4 doubles:
-- how many may run, starts, period, burst.
local is_over, former = begin()
if is_over then return former end
local field = 'l' .. ARGV[3] .. '\0' .. ARGV[4]
local partition = call('HGET', meta, field)
local is_new = not partition
if is_new then
  -- After a failover to a server that has not heard of a partition, others still use its number: it
  -- follows from the name, so that it means no other one there.
  local taken, place = {}, tonumber(sub(redis.sha1hex(field), 1, 5), 16)
  for _, value in ipairs(call('HVALS', meta)) do taken[value] = true end
  repeat
    place = place % 1048575 + 1
    partition = text(place)
  until not taken[partition]
  call('HSET', meta, field, partition)
  call('HINCRBY', meta, 'partition', 1)
end
for i = 5, #ARGV, 2 do
  call('HSET', meta, 'd' .. ARGV[i], ARGV[i + 1])
  if is_new then
    local sharing = call('HGET', meta, 's' .. ARGV[i]) or ''
    call('HSET', meta, 's' .. ARGV[i], sharing .. ' ' .. partition)
  end
end
if is_new and #ARGV > 4 then
  call('HSET', meta, 'limited', (call('HGET', meta, 'limited') or '') .. ' ' .. partition)
end
if is_new then
  review_partitions()
  wake_consumers()  -- they may know the function, or import it
end
return answer(tonumber(partition))
