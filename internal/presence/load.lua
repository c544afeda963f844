-- Writes a node's count, drops the reservations it now includes, so that the sum never dips or doubles, and reads the
-- node's mailbox of kicks.
--
-- KEYS 1 logincount   2 reserve of the node   3 kicks of the node
-- ARGV 1 node   2 count   3 entries of the mailbox that were carried out   4 the first of them
--      then digests of the tokens that logged in
-- Reply the mailbox, oldest entry first
--
-- An entry goes when the node says that it was carried out, not when it is read: a reply may be lost. The first one is
-- compared, because Redis may have lost the list and others begun it anew.
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for from = 5, #ARGV, 200 do -- unpack is bounded by Lua's stack
  redis.call('ZREM', KEYS[2], unpack(ARGV, from, math.min(from + 199, #ARGV)))
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)))
local done = tonumber(ARGV[3])
if done > 0 and redis.call('LINDEX', KEYS[3], 0) == ARGV[4] then
  redis.call('LTRIM', KEYS[3], done, -1)
end
return redis.call('LRANGE', KEYS[3], 0, -1)
