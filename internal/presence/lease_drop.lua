-- Removes a node's lease if this boot holds it.
--
-- KEYS 1 lease
-- ARGV 1 boot
-- Reply 1 removed, or there was none; 0 held by another
local held = redis.call('GET', KEYS[1])
if held then
  local ok, lease = pcall(cjson.decode, held)
  if ok and type(lease) == 'table' and lease.boot ~= ARGV[1] then
    return 0
  end
  redis.call('DEL', KEYS[1])
end
return 1
