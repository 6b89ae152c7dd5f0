-- Notes revoked tokens for all instances. Of two about the same the wider counts, and the longer.
--
-- KEYS   version, marks by the version that changed them last, what each says, marks by their end
-- ARGV   a name for this memory, if it is a new one; the most that are held; then three for each: mark, issued until, end (ms)
-- reply  how many of them there was no room for
--
-- The version is `NAME NUMBER`. Another name tells an instance that what it has seen before is gone.

local most = tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local known = redis.call('GET', KEYS[1])
local name, number = string.match(known or '', '^(%x+) (%d+)$')
name, number = name or ARGV[1], tonumber(number or 0)

-- What has ended goes, a few with each call.
local ended = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, 500)
if #ended > 0 then
  redis.call('ZREM', KEYS[2], unpack(ended))
  redis.call('HDEL', KEYS[3], unpack(ended))
  redis.call('ZREM', KEYS[4], unpack(ended))
end

local held, refused, changed = redis.call('ZCARD', KEYS[2]), 0, false
for at = 3, #ARGV, 3 do
  local mark, issued, ends = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local before = redis.call('HGET', KEYS[3], mark)
  if before then
    local was_issued, was_end = string.match(before, '^(%d+) (%d+)$')
    local is_new = issued > tonumber(was_issued) or ends > tonumber(was_end)
    issued, ends = math.max(issued, tonumber(was_issued)), math.max(ends, tonumber(was_end))
    if not is_new then
      mark = nil
    end
  elseif held >= most then
    refused = refused + 1
    mark = nil
  else
    held = held + 1
  end
  if mark then
    number = number + 1
    changed = true
    redis.call('ZADD', KEYS[2], number, mark)
    redis.call('HSET', KEYS[3], mark, string.format('%.0f %.0f', issued, ends))
    redis.call('ZADD', KEYS[4], ends, mark)
  end
end

if changed then
  redis.call('SET', KEYS[1], string.format('%s %.0f', name, number))
end
-- All of it goes when the last of it has ended.
local last = redis.call('ZRANGE', KEYS[4], -1, -1, 'WITHSCORES')
if last[2] then
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, string.format('%.0f', math.max(last[2] - now, 0) + 1000))
  end
end
return refused
