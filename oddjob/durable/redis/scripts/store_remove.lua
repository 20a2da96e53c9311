-- Remove a process whose jobs have all been taken over. ARGV: 2 number.
call('HDEL', members, ARGV[2])
call('ZREM', lease, ARGV[2])
call('PUBLISH', ARGV[1] .. ARGV[2], '')  -- it may be alive after all, and is to join again
return 1
