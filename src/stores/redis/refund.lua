-- Gives charges back. What is no longer counted stays as it is.
--
-- KEYS  a counter for each charge
-- ARGV  five for each charge: algorithm, cost, the instant it was made under, and two numbers of the algorithm
--
-- How counters are laid out is said in charge.lua. Their expiry stays.

local function read(key)
  local packed = redis.call('GET', key)
  return packed and cmsgpack.unpack(packed) or {}
end

local algorithms = {}

function algorithms.sliding_window(key, cost, at, width)
  local counter, slice = read(key), math.floor(at / width)
  for i = 1, #counter, 2 do
    if counter[i] == slice then
      counter[i + 1] = math.max(counter[i + 1] - cost, 0)
      if counter[i + 1] == 0 then
        table.remove(counter, i)
        table.remove(counter, i)
      end
      if #counter == 0 then
        redis.call('DEL', key)
      else
        redis.call('SET', key, cmsgpack.pack(counter), 'KEEPTTL')
      end
      return
    end
  end
end

-- From the newest back: requests of the same key that came since are few.
function algorithms.sliding_log(key, cost, at)
  redis.call('LREM', key, -cost, string.format('%.0f', at))
end

-- Had the charge not been made, the bucket might have run empty meanwhile: then part of it has drained where nothing else would
-- have, and to take back all of it would take away what others were charged since. That part is no more than the time from this
-- charge to the latest; so much of it stays.
function algorithms.gcra(key, cost, at, interval, unit)
  local counter = read(key)
  if counter[1] then
    local drained = math.ceil(math.max(counter[2] - at, 0) * 1000 / unit)
    local given = math.max(interval * cost - drained, 0)
    redis.call('SET', key, cmsgpack.pack({ math.max(counter[1] - given, 0), counter[2] }), 'KEEPTTL')
  end
end

for charge, key in ipairs(KEYS) do
  local first = (charge - 1) * 5
  local numbers = {}
  for i = 2, 5 do
    numbers[i - 1] = tonumber(ARGV[first + i])
  end
  algorithms[ARGV[first + 1]](key, unpack(numbers))
end
