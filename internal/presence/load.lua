-- Writes a node's count and drops the reservations it now includes, so that the sum never dips or doubles.
--
-- KEYS 1 logincount   2 reserve of the node
-- ARGV 1 node   2 count   then digests of the tokens that logged in
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for from = 3, #ARGV, 200 do -- unpack is bounded by Lua's stack
  redis.call('ZREM', KEYS[2], unpack(ARGV, from, math.min(from + 199, #ARGV)))
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)))
return 1
