-- Read jobs; nothing is written. ARGV: ids, from the second on. For each that there is: id, state,
-- record, attempts and crashes, when it is due, token, time of its claim, outcome, progress.
local found = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local record = call('HGET', job, id)
  if record then
    local token = call('ZSCORE', run, id)
    token = token and text(tonumber(token)) or ''
    local progress = call('HGET', extra, 'p' .. id) or false
    local counts = is_of_batch(record) and call('HGET', extra, 'B' .. id)
    if counts then
      local total, pending = parse('<I4I4', counts)
      progress = '.[' .. text(total - pending) .. ',' .. text(total) .. ']'
    end
    found[#found + 1] = {id, state_of(id), record, call('HGET', tries, id) or '0',
      call('ZSCORE', due, id) or '', token, call('HGET', times, token) or '',
      call('HGET', outcomes, id) or '', progress}
  end
end
return found
