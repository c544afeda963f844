-- Reads the id of this body of data, or writes one when there is none, which means that Redis is new or lost its data.
--
-- KEYS 1 generation
-- ARGV 1 id to write when there is none
-- Reply {id, its age in ms by Redis' clock}
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local id, born = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%d+)$')
if not id then
  id, born = ARGV[1], now
  redis.call('SET', KEYS[1], id .. ' ' .. string.format('%.0f', now))
end
return {id, math.max(0, now - tonumber(born))}
