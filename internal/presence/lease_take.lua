-- Takes a node's lease when it is free, already ours, or held by exactly the boot to be replaced.
--
-- KEYS 1 lease
-- ARGV 1 lease JSON   2 its boot   3 boot that may be replaced or ""   4 TTL ms
-- Reply "" taken, else the holder's lease JSON
local held = redis.call('GET', KEYS[1])
if held then
  local ok, lease = pcall(cjson.decode, held)
  local boot = ok and type(lease) == 'table' and lease.boot or ''
  if boot ~= ARGV[2] and (ARGV[3] == '' or boot ~= ARGV[3]) then
    return held
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
return ''
