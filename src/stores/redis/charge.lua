-- Decides all rules of one request together, by the clock of Redis: it charges each of them, or none. What a rule says that does
-- not bind keeps neither itself nor others from it: it is charged where it agrees.
--
-- KEYS   a counter for each rule, no two the same; behind it, of a rule with a penalty, the key of that
-- ARGV   seven for each rule: algorithm, cost, limit, two numbers of the algorithm, whether it binds (1 or 0), penalty in µs (or 0)
-- reply  four for each rule: allowed (1 or 0), remaining, wait in µs, the instant of the charge in µs
--
-- Everything is counted in whole numbers below 2^53, which doubles hold exactly.

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]

-- A counter is a list of numbers in one string; without any it is one that nobody has charged.
local function read(key)
  local packed = redis.call('GET', key)
  return packed and cmsgpack.unpack(packed) or {}
end

-- `ends` is the instant from which on the counter says nothing more. A second later it is gone.
local function px(ends)
  return string.format('%.0f', math.ceil((ends - clock) / 1000) + 1000)
end

local function write(key, counter, ends)
  redis.call('SET', key, cmsgpack.pack(counter), 'PX', px(ends))
end

-- Each algorithm looks at its counter and answers with a verdict, and with what charges it. Until then nothing is counted.
-- The clock may go back (a replica took over): then the counter's newest charge is the present.
local algorithms = {}

-- Slices of the window that are not empty: number, count, number, count …, the oldest first. A slice leaves when slice
-- `number + ring` begins, which is after the whole window has passed over it: so the sum is a hard bound.
function algorithms.sliding_window(key, cost, limit, width, ring)
  local stored, counter, used = read(key), {}, 0
  local newest = math.max(math.floor(clock / width), stored[#stored - 1] or 0)
  for i = 1, #stored, 2 do
    if stored[i] + ring > newest then
      counter[#counter + 1] = stored[i]
      counter[#counter + 1] = stored[i + 1]
      used = used + stored[i + 1]
    end
  end
  local at = math.max(clock, newest * width)

  -- Until `need` of what is counted has left.
  local function wait(need)
    for i = 1, #counter, 2 do
      need = need - counter[i + 1]
      if need <= 0 then
        return (counter[i] + ring) * width - at
      end
    end
    return (newest + ring) * width - at
  end

  local free = math.max(limit - used, 0)
  if cost > free then
    return { 0, free, wait(used + cost - limit), at }
  end
  return { 1, free, wait(1), at }, function()
    if counter[#counter - 1] == newest then
      counter[#counter] = counter[#counter] + cost
    else
      counter[#counter + 1] = newest
      counter[#counter + 1] = cost
    end
    write(key, counter, (newest + ring) * width)
    return { 1, free - cost, wait(1), at }
  end
end

-- The instants of the charges in the window, a list of Redis: a string would be written anew for each request.
function algorithms.sliding_log(key, cost, limit, window)
  local length = redis.call('LLEN', key)
  local function instant(index)
    return tonumber(redis.call('LINDEX', key, index))
  end
  local at = length > 0 and math.max(clock, instant(-1)) or clock

  -- How many have left: they stand in order, and most often the oldest is still inside.
  local left, inside = 0, length
  if length > 0 and instant(0) + window > at then
    inside = 0
  end
  while left < inside do
    local middle = math.floor((left + inside) / 2)
    if instant(middle) + window <= at then
      left = middle + 1
    else
      inside = middle
    end
  end
  local used = length - left

  -- Until `need` of those in the window have left. More than there are never will: that is told the whole window.
  local function wait(need)
    return used == 0 and window or instant(left + math.min(need, used) - 1) + window - at
  end

  local free = math.max(limit - used, 0)
  if cost > free then
    return { 0, free, wait(used + cost - limit), at }
  end
  return { 1, free, used == 0 and 0 or wait(1), at }, function()
    if left > 0 then
      redis.call('LTRIM', key, left, -1)
      left = 0
    end
    local instants = {}
    for i = 1, cost do
      instants[i] = string.format('%.0f', at)
    end
    -- At most 4096, the largest limit of a log: within what Lua passes on.
    redis.call('RPUSH', key, unpack(instants))
    used = used + cost
    redis.call('PEXPIRE', key, px(at + window))
    return { 1, free - cost, wait(1), at }
  end
end

-- A bucket that drains one tick of `unit` ns after the other, an `interval` of them for each charge: its level, and the instant
-- of the latest charge, at which it had that level.
function algorithms.gcra(key, cost, burst, interval, unit)
  local stored = read(key)
  local at = math.max(clock, stored[2] or 0)
  local level = 0
  if stored[1] then
    level = math.max(stored[1] - math.floor((at - stored[2]) * 1000 / unit), 0)
  end
  local full = burst * interval

  -- Until the bucket has drained by so many ticks.
  local function wait(ticks)
    return math.max(math.ceil(ticks * unit / 1000), 0)
  end

  local free = math.floor((full - level) / interval)
  free = math.max(free, 0)
  if cost > free then
    return { 0, free, wait(level + cost * interval - full), at }
  end
  return { 1, free, wait(level == 0 and 0 or level + (free + 1) * interval - full), at }, function()
    level = level + cost * interval
    free = free - cost
    write(key, { level, at }, at + wait(level))
    return { 1, free, wait(level + (free + 1) * interval - full), at }
  end
end

-- After a refusal a key stays refused for so long. What is refused meanwhile does not make it longer, so who comes back when it
-- was told to passes. Whatever other rules say, the refusal was one.
local function penal(key, penalty, verdict, charge)
  local at = verdict[4]
  local ends = tonumber(redis.call('GET', key) or '0')
  if ends > at then
    return { 0, 0, math.max(ends - at, charge and 0 or verdict[3]), at }
  end
  if charge then
    return verdict, charge
  end
  redis.call('SET', key, string.format('%.0f', at + penalty), 'PX', px(at + penalty))
  return { 0, 0, math.max(verdict[3], penalty), at }
end

local WIDTH = 7
local rules = math.floor(#ARGV / WIDTH)
local verdicts, charges, key = {}, {}, 0
for rule = 1, rules do
  local first = (rule - 1) * WIDTH
  local algorithm = algorithms[ARGV[first + 1]]
  local cost, limit = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])
  key = key + 1
  local verdict, charge = algorithm(KEYS[key], cost, limit, tonumber(ARGV[first + 4]), tonumber(ARGV[first + 5]))
  local penalty = tonumber(ARGV[first + 7])
  if penalty > 0 then
    key = key + 1
    verdict, charge = penal(KEYS[key], penalty, verdict, charge)
  end
  verdicts[rule], charges[rule] = verdict, charge
end

-- A rule that refuses has nothing to charge.
local all = true
for rule = 1, rules do
  all = all and (charges[rule] ~= nil or ARGV[(rule - 1) * WIDTH + 6] == '0')
end

local reply = {}
for rule = 1, rules do
  local verdict = all and charges[rule] and charges[rule]() or verdicts[rule]
  for i = 1, 4 do
    reply[#reply + 1] = verdict[i]
  end
end
return reply
