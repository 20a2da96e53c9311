-- Keep the value of a step of a claimed job. ARGV: 2 caller, 3 id, 4 token, 5 name, 6 value.
-- Returns 1, or 0 if the token is not valid.
local is_over, former = begin()
if is_over then return former end
local id, name = ARGV[3], ARGV[5]
if tonumber(call('ZSCORE', run, id) or 0) ~= tonumber(ARGV[4]) then return answer(0) end
if call('HSET', extra, 's' .. id .. name, ARGV[6]) == 1 then
  local names = call('HGET', extra, 'n' .. id) or ''
  call('HSET', extra, 'n' .. id, names .. pack('<I2', #name) .. name)
end
return answer(1)
