-- One counter of `sliding_window`, for an instance that decides by itself while it is far from the limit.
--
-- KEYS   the counter, laid out as in charge.lua
-- ARGV   cost, limit, width and number of slices, what the instance has admitted and not told yet, how much it would borrow
-- reply  allowed (1 or 0), remaining, wait in µs, the instant of the charge in µs, how much is borrowed
--
-- What was admitted is counted whole, above the limit too: the counter is then full for longer, and nobody has more than was
-- let pass. What is borrowed is charged here first; it is spent within this slice or given back, so it stands where it would
-- have stood had each request asked.

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local cost, limit, width, ring = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local owed, extra = tonumber(ARGV[5]), tonumber(ARGV[6])

local packed = redis.call('GET', KEYS[1])
local stored = packed and cmsgpack.unpack(packed) or {}
local counter, used = {}, owed
local newest = math.max(math.floor(clock / width), stored[#stored - 1] or 0)
for i = 1, #stored, 2 do
  if stored[i] + ring > newest then
    counter[#counter + 1] = stored[i]
    counter[#counter + 1] = stored[i + 1]
    used = used + stored[i + 1]
  end
end
local at = math.max(clock, newest * width)

local allowed = used + cost <= limit
local borrowed = 0
if allowed then
  -- Half of what is left: the rest is for the others.
  borrowed = math.min(extra, math.ceil((limit - used - cost) / 2))
end
local charged = owed + (allowed and cost or 0) + borrowed
if charged > 0 then
  if counter[#counter - 1] == newest then
    counter[#counter] = counter[#counter] + charged
  else
    counter[#counter + 1] = newest
    counter[#counter + 1] = charged
  end
  -- As long as the newest slice counts, and a second more.
  local ends = string.format('%.0f', math.ceil(((newest + ring) * width - clock) / 1000) + 1000)
  redis.call('SET', KEYS[1], cmsgpack.pack(counter), 'PX', ends)
end

-- Until there is room: for this request, or for one more than now.
local need = allowed and 1 or used + cost - limit
local wait = #counter > 0 and (newest + ring) * width - at or 0
for i = 1, #counter, 2 do
  need = need - counter[i + 1]
  if need <= 0 then
    wait = (counter[i] + ring) * width - at
    break
  end
end

local free = allowed and limit - used - cost - borrowed or math.max(limit - used, 0)
return { allowed and 1 or 0, free, wait, at, borrowed }
