-- Refuses every token and ticket issued until now, by Redis' own clock, which also stamped them.
--
-- KEYS 1 tokenMin
-- ARGV 1 TTL s, at least the longest life of what it refuses
local t = redis.call('TIME')
redis.call('SET', KEYS[1], string.format('%.0f', tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)), 'EX', ARGV[1])
return 1
