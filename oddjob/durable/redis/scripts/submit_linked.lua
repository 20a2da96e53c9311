-- Store jobs that have to do with each other, or with others. ARGV: 2 caller, 3 for each job: how
-- many others it waits for; of each its id, or how many places before it is, and the condition; how
-- many places before its batch is (0: the record has its id, or there is none); then the records.
-- Returns for each job its id, 1 if it is new, and 1 if it waits for its time.
local is_over, former = begin()
if is_over then return former end
local count = #ARGV - 3
local first, ids, answers, at = take_ids(count), {}, {}, 1
links = workflow()
for i = 1, count do
  local record, others, distance = ARGV[3 + i], {}, nil
  local number
  number, at = parse('<I2', ARGV[3], at)
  for n = 1, number do
    local other, before, condition
    other, before, condition, at = parse('<c16I4c1', ARGV[3], at)
    others[n] = {other, before, condition}
  end
  distance, at = parse('<I4', ARGV[3], at)
  local _, _, origin, _, _, _, value, entry = header(record)
  local twin = value ~= '' and call('HGET', unique, value)
  if twin then
    ids[i] = twin
    local _, _, first_origin = header(call('HGET', job, twin))
    if origin ~= 0 and origin ~= first_origin then add_watcher(twin, origin) end
    answers[#answers + 1] = {twin, 0, call('ZSCORE', due, twin) and 1 or 0}
  else
    local id = id_text(first)
    first, ids[i] = first + 1, id
    if distance > 0 then record = sub(record, 1, -17) .. ids[i - distance] end
    local batch, waits = batch_of(record), is_of_batch(record)
    call('HSET', job, id, record)
    if value ~= '' then call('HSET', unique, value, id) end
    if batch then links.add_member(batch, id) end
    if waits then links.add_batch(id) end
    for _, each in ipairs(others) do
      local before = each[2]
      local other = before > 0 and ids[i - before] or each[1]
      if links.add_dependency(id, other, each[3], before > 0) then waits = true end
    end
    if waits then call('ZADD', due, 'inf', id) else place(id, record) end
    answers[#answers + 1] = {id, 1, 0}
  end
end
links.added()
wake_for_jobs()
return answer(answers)
