-- Takes a node's entry out of a group's hash, if it is still the one that the caller means.
-- KEYS: the hash. ARGV: field, value. Returns 1 if it was there.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
