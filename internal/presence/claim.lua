-- Consumes a login token or resume ticket and swaps the session of one device, or changes nothing.
--
-- KEYS 1 token, or resume of the device when resuming   2 tokenMin   3 session   4 nodeOf   5 resume of the device
--      6 version of the lists   7 profile   8 lists, behind their version and a line feed
-- ARGV 1 "token" or "resume"   2 digest presented   3 device   4 location "sid|node|boot"   5 node
--      6 session TTL s   7 digest of the next ticket or ""   8 ticket TTL s   9 replay window ms   10 devices allowed
--      11 "peek": change nothing; "warm": change nothing unless profile and lists are cached; "claim"
-- Reply {0} refused; else {status, displaced location or "", version, profile or "", lists or "", device, location, ...}
-- status 1 claimed   2 too many devices   3 not asked to, the token is good; 0 only for "peek". A "claim" brings no caches.
--
-- A used token stays for the replay window with the location that used it and the one it displaced: a client library
-- that lost the reply sends the script again and must get the first answer, not "refused" for a login that happened.
local now = function()
  local t = redis.call('TIME')
  return string.format('%.0f', tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000))
end

local resuming, device, mine = ARGV[1] == 'resume', ARGV[3], ARGV[4]
local mode = ARGV[11]
local found
if mode == 'claim' then
  found = redis.call('MGET', KEYS[1], KEYS[2], KEYS[6])
else
  found = redis.call('MGET', KEYS[1], KEYS[2], KEYS[6], KEYS[7], KEYS[8])
end
local version, profile, lists = found[3] or '0', found[4] or '', found[5] or ''
local refused = function()
  if mode == 'peek' then
    return {0, '', version, profile, lists}
  end
  return {0}
end

if not found[1] then
  return refused()
end
local issued, claimant, displaced, current, previous, sibling =
  string.match(found[1], '^(%d+) ?(%S*) ?(%S*) ?(%S*) ?(%S*) ?(%S*)$')
if not issued then
  return refused()
end
if found[2] and tonumber(issued) <= tonumber(found[2]) then
  return refused()
end
local again = claimant == mine
if not again then
  if resuming then
    if ARGV[2] ~= current and ARGV[2] ~= previous and ARGV[2] ~= sibling then
      return refused()
    end
  elseif claimant ~= '' then
    return refused()
  end
  local cached = profile ~= '' and string.sub(lists, 1, #version + 1) == version .. '\n'
  if mode == 'peek' or mode == 'warm' and not cached then
    return {3, '', version, profile, lists}
  end
end

local sessions = redis.pcall('HGETALL', KEYS[3])
if sessions.err then -- the seed kept a string here
  redis.call('DEL', KEYS[3])
  sessions = {}
end
local old, others = '', {}
for i = 1, #sessions, 2 do
  if sessions[i] == device then
    old = sessions[i + 1]
  else
    others[#others + 1] = sessions[i]
    others[#others + 1] = sessions[i + 1]
  end
end
local answer = function(status, first)
  local reply = {status, first, version, profile, lists}
  for i = 1, #others do
    reply[#reply + 1] = others[i]
  end
  return reply
end

if again then
  if old ~= mine then -- replaced again since
    return {0}
  end
  if displaced == '-' then
    displaced = ''
  end
  return answer(1, displaced)
end
if old == '' and #others / 2 >= tonumber(ARGV[10]) then
  return answer(2, '')
end

redis.call('HSET', KEYS[3], device, mine)
redis.call('EXPIRE', KEYS[3], ARGV[6])
redis.call('SET', KEYS[4], ARGV[5], 'EX', ARGV[6])
local record = mine .. ' ' .. (old == '' and '-' or old)
if not resuming then
  redis.call('SET', KEYS[1], issued .. ' ' .. record, 'PX', ARGV[9])
  if ARGV[7] ~= '' then
    redis.call('SET', KEYS[5], now() .. ' - - ' .. ARGV[7] .. ' - -', 'EX', ARGV[8])
  elseif device ~= '' then -- stock clients never have tickets
    redis.call('DEL', KEYS[5])
  end
elseif ARGV[7] ~= '' then
  -- What was presented stays good until the next ticket is used: the reply that carries it may get lost. So does the
  -- ticket that an earlier use of the same one gave out, its sibling: a client that gave a slow login up and tried again
  -- may hold either, in whatever order the two got here.
  local other = ARGV[2] == current and '-' or current
  redis.call('SET', KEYS[5], now() .. ' ' .. record .. ' ' .. ARGV[7] .. ' ' .. ARGV[2] .. ' ' .. other, 'EX', ARGV[8])
else
  redis.call('SET', KEYS[5], issued .. ' ' .. record .. ' - - -', 'PX', ARGV[9])
end
return answer(1, old)
