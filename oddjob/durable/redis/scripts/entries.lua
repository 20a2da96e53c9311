-- Read the recurring entries; nothing is written.
local found = {}
for _, name in ipairs(call('HKEYS', entries)) do found[#found + 1] = read_entry(name) end
return found
