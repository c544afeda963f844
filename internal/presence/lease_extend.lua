-- Extends a node's lease if it is still held by this boot; never revives one that lapsed or was taken.
--
-- KEYS 1 lease
-- ARGV 1 lease JSON   2 its boot   3 TTL ms
-- Reply {1} extended, {0} lapsed, {0, lease JSON} held by another
local held = redis.call('GET', KEYS[1])
if not held then
  return {0}
end
local ok, lease = pcall(cjson.decode, held)
if not ok or type(lease) ~= 'table' or lease.boot ~= ARGV[2] then
  return {0, held}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return {1}
