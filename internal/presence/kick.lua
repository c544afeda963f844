-- Leaves a kick in the mailbox of a node. A full one gets a last entry that tells the node to compare all its sessions.
--
-- KEYS 1 kicks of the node
-- ARGV 1 entry   2 entries that the mailbox holds   3 entry for one too many   4 TTL s
-- Reply 1 left, 0 full
local n = redis.call('LLEN', KEYS[1])
local fits = n < tonumber(ARGV[2])
if fits then
  redis.call('RPUSH', KEYS[1], ARGV[1])
elseif n == tonumber(ARGV[2]) then
  redis.call('RPUSH', KEYS[1], ARGV[3])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return fits and 1 or 0
