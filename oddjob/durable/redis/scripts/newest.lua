-- Look for the newest queued jobs. ARGV: 2 and 3 between which ids, without the second one; 4 how many.
-- Returns ids: of each partition and priority its newest ones, since they are in order there; and
-- whether these are all. They are not if there are more than 200 of both, nor if jobs take turns.
local since, before, most = ARGV[2], ARGV[3], tonumber(ARGV[4])
local found, size, highest = {}, call('ZCARD', queue), '+inf'
for _ = 1, call('EXISTS', turns) == 1 and 0 or 200 do
  local newest = call('ZREVRANGEBYSCORE', queue, highest, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if #newest == 0 then return {found, 1} end
  local id, score = unpack(newest)
  local from = size - call('ZCOUNT', queue, '-inf', score)
  local to = size - call('ZCOUNT', queue, '-inf', '(' .. score)
  local last = to
  while id >= before and from < to do  -- the first one that is older is from `from` to `to`
    local middle = math.floor((from + to) / 2)
    if call('ZREVRANGE', queue, middle, middle)[1] < before then to = middle else from = middle + 1 end
  end
  for _, each in ipairs(call('ZREVRANGE', queue, from, math.min(from + most, last) - 1)) do
    if each < since then break end
    found[#found + 1] = each
  end
  highest = '(' .. score
end
return {found, 0}
