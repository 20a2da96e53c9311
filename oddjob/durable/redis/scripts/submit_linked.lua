-- Store jobs that have to do with each other, or with others. ARGV: 2 caller, 3 for each job: how
-- many others it waits for; how many places before its batch is (0: the record has its id, or there is
-- none); of each other its id, or how many places before it is, and the condition; then the records.
-- Returns the first id, and for each job that is not new its place, its id, and 1 if it waits for its
-- time.
local is_over, former = begin()
if is_over then return former end
local count = #ARGV - 3
local first, ids, twins, at = take_ids(count), {}, {}, 1
local former_first = text(first)
links = workflow()
local jobs, places, scores = {}, {}, {}  -- of those that have to do with nothing but their batch
local function flush()
  if #jobs > 0 then call('HSET', job, unpack(jobs)); call('ZADD', queue, unpack(places)) end
  jobs, places = {}, {}
end
for i = 1, count do
  local record, others, number, distance = ARGV[3 + i], {}, nil, nil
  number, distance, at = parse('<I2I4', ARGV[3], at)
  for n = 1, number do
    local other, before, condition
    other, before, condition, at = parse('<c16I4c1', ARGV[3], at)
    others[n] = {other, before, condition}
  end
  local partition, priority, origin, _, flags, key, value = parse('<I4i4dI4BI2I2', record)
  local name = value > 0 and select(7, header(record))
  local twin = name and call('HGET', unique, name)
  if twin and replace(twin, record, now) then twin = nil end
  if twin then
    ids[i] = twin
    local _, _, first_origin = header(call('HGET', job, twin))
    if origin ~= 0 and origin ~= first_origin then add_watcher(twin, origin) end
    local n = #twins
    twins[n + 1], twins[n + 2], twins[n + 3] = i, twin, call('ZSCORE', due, twin) and 1 or 0
  else
    local id = id_text(first)
    first, ids[i] = first + 1, id
    local batch = flags % 4 >= 2 and (distance > 0 and ids[i - distance] or sub(record, -16))
    if distance > 0 then record = sub(record, 1, -17) .. batch end
    if batch then links.add_member(batch, id) end
    local waits = flags % 8 >= 4
    local is_plain = number == 0 and not waits and key + value == 0
    if is_plain and flags < FAIR and not has_turns then
      local n, score = #jobs, partition * PARTITION + HIGHEST - priority
      scores[score] = scores[score] or text(score)
      jobs[n + 1], jobs[n + 2] = id, record
      places[n + 1], places[n + 2] = scores[score], id
      note_queued(partition)
      if n > 1000 then flush() end
    else
      call('HSET', job, id, record)
      if name then call('HSET', unique, name, id) end
      if waits then links.add_batch(id) end
      for _, each in ipairs(others) do
        local before = each[2]
        local other = before > 0 and ids[i - before] or each[1]
        if links.add_dependency(id, other, each[3], before > 0) then waits = true end
      end
      if waits then call('ZADD', due, 'inf', id) else place(id, record) end
    end
  end
end
flush()
links.added()
wake_for_jobs()
return answer({former_first, twins})
