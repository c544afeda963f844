-- Chooses a node for each token: the least loaded, of equals the one picked longest ago; reserves a slot there.
--
-- KEYS 1 logincount   2 lastPick   3... reserve of each node
-- ARGV 1 life of a reservation ms   2 number of nodes n   then n node names   then token digests
-- Reply {now ms, index of the node (1..n) for each token}
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local n = tonumber(ARGV[2])
local names = {}
for i = 1, n do
  names[i] = ARGV[2 + i]
end
local counts = redis.call('HMGET', KEYS[1], unpack(names))
local picks = redis.call('HMGET', KEYS[2], '#', unpack(names))
local pick = tonumber(picks[1] or '0') or 0
local last, reserved = {}, {}
local levels, level = {}, nil -- load -> nodes that have it, in the order in which they are due
local after = '(' .. string.format('%.0f', now)
for i = 1, n do
  local load = tonumber(string.match(counts[i] or '', '^%d+$') or '0') + redis.call('ZCOUNT', KEYS[2 + i], after, '+inf')
  last[i], reserved[i] = tonumber(picks[1 + i] or '0') or 0, {}
  levels[load] = levels[load] or {}
  table.insert(levels[load], i)
  level = math.min(level or load, load)
end
for _, nodes in pairs(levels) do
  table.sort(nodes, function(a, b)
    if last[a] ~= last[b] then
      return last[a] < last[b]
    end
    return a < b
  end)
end

-- A pick raises its node by one level, behind those that are there, because it is now the latest. So a level is used up
-- from front to back before the next one begins, and a pick costs the same however many nodes there are.
local reply = {now}
local lapse = string.format('%.0f', now + tonumber(ARGV[1]))
local nodes, at = levels[level], 1
for a = 3 + n, #ARGV do
  if at > #nodes then
    level = level + 1
    nodes, at = levels[level], 1
  end
  local best = nodes[at]
  at = at + 1
  levels[level + 1] = levels[level + 1] or {}
  table.insert(levels[level + 1], best)
  pick = pick + 1
  last[best] = pick
  local r = reserved[best]
  r[#r + 1] = lapse
  r[#r + 1] = ARGV[a]
  reply[#reply + 1] = best
end

local picked = {'#', string.format('%.0f', pick)}
for i = 1, n do
  local r = reserved[i]
  if #r > 0 then
    for from = 1, #r, 200 do -- unpack is bounded by Lua's stack
      redis.call('ZADD', KEYS[2 + i], unpack(r, from, math.min(from + 199, #r)))
    end
    redis.call('PEXPIRE', KEYS[2 + i], ARGV[1])
    picked[#picked + 1] = names[i]
    picked[#picked + 1] = string.format('%.0f', last[i])
  end
end
redis.call('HSET', KEYS[2], unpack(picked))
return reply
