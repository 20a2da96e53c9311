-- Delete old jobs. ARGV: 2 caller; 3 how many succeeded ones to keep; 4 the failed and canceled
-- ones go that ended before that time; 5 how many at most. Returns how many.
local is_over, former = begin()
if is_over then return former end
local keep, before, budget = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local old, from = {}, SUCCEEDED * STATE
local excess = call('ZCOUNT', ended, from, from + STATE - 1) - keep
if excess > 0 then
  old = call('ZRANGEBYSCORE', ended, from, from + STATE - 1, 'LIMIT', 0, math.min(excess, budget))
end
local to = math.max(0, math.min(math.floor(before * 1000), STATE - 1))
for _, state in ipairs({FAILED, CANCELLED}) do
  if #old < budget then
    from = state * STATE
    local more = call('ZRANGEBYSCORE', ended, from, '(' .. text(from + to),
      'LIMIT', 0, budget - #old)
    for _, id in ipairs(more) do old[#old + 1] = id end
  end
end
if #old > 0 then call('ZREM', ended, unpack(old)) end
erase(old)
return answer(#old)
