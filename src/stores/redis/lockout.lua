-- Notes one failed authentication, as an instance would in its memory.
--
-- KEYS   the record of the address; who is locked, by when that ends, and when this was changed last; behind them, where an identity was
--        claimed, the record of that
-- ARGV   failures that lock, within this window; how long the first lock lasts, and the longest: all in µs but the first. The address as
--        it stands among the locked, and the most of them
-- reply  how long the address is locked in µs (or 0), whether that begins now (1 or 0), how long the identity is watched (or 0, unless
--        that begins now)
--
-- A record is four numbers: failures in the window, since when it runs, locks so far, until when the last one holds.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local failures, window, duration, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local function read(key)
  local packed = redis.call('GET', key)
  return packed and cmsgpack.unpack(packed) or { 0, 0, 0, 0 }
end

-- Until it says nothing any more, and a second longer.
local function write(key, record)
  local ends = record[2] + window
  if record[3] > 0 then
    ends = math.max(ends, record[4] + longest)
  end
  redis.call('SET', key, cmsgpack.pack(record), 'PX', string.format('%.0f', math.ceil((ends - now) / 1000) + 1000))
end

local function lock(record)
  if now >= record[4] + longest then
    record[3] = 0
  end
  local lasts = math.min(duration * 2 ^ math.min(record[3], 20), longest)
  record[1], record[2], record[3], record[4] = 0, now, math.min(record[3] + 1, 255), now + lasts
  return lasts
end

local function fail(record)
  -- Also where the clock went back (a replica took over): a failure counts in the window that runs.
  if now >= record[2] + window then
    record[1], record[2] = 0, now
  end
  record[1] = record[1] + 1
  return record[1] >= failures and lock(record) or 0
end

local watched, is_watched = 0, false
if KEYS[4] then
  local identity = read(KEYS[4])
  watched = fail(identity)
  is_watched = identity[4] > now
  write(KEYS[4], identity)
end

-- For the other instances. Of more than so many at once they learn with a failure of their own.
local function tell(ends)
  local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 500)
  if #over > 0 then
    redis.call('ZREM', KEYS[2], unpack(over))
  end
  if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[6]) then
    return
  end
  redis.call('ZADD', KEYS[2], string.format('%.0f', ends), ARGV[5])
  local last = tonumber(redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2])
  local lives = string.format('%.0f', math.ceil((last - now) / 1000) + 1000)
  redis.call('PEXPIRE', KEYS[2], lives)
  redis.call('SET', KEYS[3], string.format('%.0f', now), 'PX', lives)
end

local address = read(KEYS[1])
local locked, begins = address[4] - now, 0
if locked <= 0 then
  locked = is_watched and lock(address) or fail(address)
  begins = locked > 0 and 1 or 0
  write(KEYS[1], address)
  if begins == 1 then
    tell(address[4])
  end
end
return { locked, begins, watched }
