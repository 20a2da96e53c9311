-- Insert jobs for a thread that does not wait for the next turn of its process.
-- ARGV as of `turn`; there are submits alone, without bounds of the queue.
-- Returns the first id, and twins; or false if the process was taken over.
local nonce, _, number_of = parse('<c8dd', ARGV[2])
local _, _, _, _, _, count = parse('<i4i4BI4I4I4', ARGV[3])
own = call('HMGET', mine, 'nonce', 'submit', 'submitted')
if own[1] ~= nonce then return false end
if tonumber(own[2]) == number_of then
  call('HSET', mine, 'submit', own[2])  -- as in `begin`
  return cmsgpack.unpack(own[3])
end
local next_before = call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
local submitted = {text(insert(count)), twins}
if is_alarmed then wake_for_alarm(next_before) end
wake_for_jobs()  -- also this process
call('HSET', mine, 'submit', text(number_of), 'submitted', cmsgpack.pack(submitted))
return submitted
