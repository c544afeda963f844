-- Removes the session of one device and its resume tickets if it is still the one named; a newer one keeps both.
--
-- KEYS 1 session   2 nodeOf   3 resume of the device   4 seen
-- ARGV 1 device   2 location "sid|node|boot"   3 session TTL s   4 TTL of seen s
-- Reply 1 removed, 0 not there
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[3])
redis.call('HDEL', KEYS[1], ARGV[1])
local left = redis.call('HVALS', KEYS[1])
if #left == 0 then
  redis.call('DEL', KEYS[2])
  redis.call('SET', KEYS[4], math.floor(tonumber(redis.call('TIME')[1]) / 60), 'EX', ARGV[4])
else
  redis.call('SET', KEYS[2], string.match(left[1], '^[^|]*|(.*)|[^|]*$') or '', 'EX', ARGV[3])
end
return 1
