-- Delete old jobs. ARGV: 2 caller; 3 how many succeeded ones to keep; 4 the failed and canceled
-- ones go that ended before that time; 5 how many at most; 6 if there are none of these, the oldest of
-- each state beyond that many bytes; 7 bytes of a record with no data. Returns how many.
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

-- Return how many jobs of a state are too many, as the mean size of some says, and their first rank.
local function excess_of(state)
  from = state * STATE
  local first = call('ZCOUNT', ended, '-inf', '(' .. text(from))
  local count = call('ZCOUNT', ended, from, from + STATE - 1)
  local step, looked, size = math.max(1, math.floor(count / 32)), 0, 0
  for rank = first + now_us % step, first + count - 1, step do
    local id = call('ZRANGE', ended, rank, rank)[1]
    looked = looked + 1
    size = size + ARGV[7] + call('HSTRLEN', job, id) + call('HSTRLEN', outcomes, id)
  end
  return looked > 0 and math.ceil(count - ARGV[6] * looked / size) or 0, first
end

if #old == 0 and ARGV[6] ~= 'inf' then
  for _, state in ipairs({SUCCEEDED, FAILED, CANCELLED}) do
    local count, first = excess_of(state)
    count = math.min(count, budget - #old)
    if count > 0 then
      for _, id in ipairs(call('ZRANGE', ended, first, first + count - 1)) do old[#old + 1] = id end
    end
  end
end
if #old > 0 then call('ZREM', ended, unpack(old)) end
erase(old)
return answer(#old)
