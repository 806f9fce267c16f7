"""The Lua by which jobs enter the queue, leave it unrun, and are listened to; for `jobs` and `events`.

Keys that are not RQ's, beside those of `movq_core/events.py`; OWNER is `-` where there are no API keys:

    movq:jobs:OWNER               sorted set: the last job ids of an owner -> when they were made
    movq:open:OWNER               set: jobs that may be queued or running; looked through when it seems full
                                  (both are forgotten when their owner has made no job for a month)
    movq:idempotency:OWNER:HASH   hash: `job_id`, `fingerprint` of an Idempotency-Key, for a day
"""

from __future__ import annotations

from movq_core.events import TELL
from movq_core.protocol import MAX_IMAGES

IDEMPOTENCY_TTL_S = 24 * 3600
JOBS_LISTED = 1000
OWNER_TTL_S = 30 * 24 * 3600  # of what is known of an owner who makes no more jobs
SUBMITTER = "submitter"  # the watcher that stands for a listener who is about to come

# SORT reads a field of every record that the entries of a key name, in one command: a job that waits has its
# images in its own record, one that runs in its execution's. A foreign one has none, or any
# number, and counts as one image.
_COUNT = f"""
local function images_in(told)
  local images = tonumber(told or 1) or 1
  return images >= 1 and images <= {MAX_IMAGES} and images or 1
end
local function count(key, pattern)
  local jobs, images = redis.call('SORT', key, 'BY', 'nosort', 'GET', pattern .. '->images'), 0
  for _, of_job in ipairs(jobs) do images = images + images_in(of_job) end
  return #jobs, images
end
local function queued(key) return count(key, 'rq:job:*') end
local function running(key) return count(key, 'rq:execution:*') end
"""

# KEYS its queue, job, all queues, its owner's jobs, those open, idempotency; the bundle's three queues, and
# their three registries of running executions. ARGV job id; its images; how many images of the bundle there
# may be, with these, queued and running; seconds to its deadline; how many jobs of the owner may be open;
# fingerprint; seconds that a listener is waited for; fields of the job. An empty argument: not asked for.
# Returns {what became of it, ...}: `queued`, its place and its deadline; `known`, and the id of the job that
# had its Idempotency-Key; `conflict`; `open`, and how many are; `full`. Count and entry are one: the bounds
# hold whatever number of services there is. The first in a queue tells RQ's tools that there is one.
ENQUEUE = (
    TELL
    + _COUNT
    + f"""
local id, now = ARGV[1], redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1e6
if ARGV[6] ~= '' then
  local known, fingerprint = unpack(redis.call('HMGET', KEYS[6], 'job_id', 'fingerprint'))
  if known and redis.call('EXISTS', 'rq:job:' .. known) == 1 then
    return fingerprint == ARGV[6] and {{'known', known}} or {{'conflict'}}
  end
end
if ARGV[5] ~= '' then
  if redis.call('SCARD', KEYS[5]) >= tonumber(ARGV[5]) then
    for _, other in ipairs(redis.call('SMEMBERS', KEYS[5])) do
      local status = redis.call('HGET', 'rq:job:' .. other, 'status')
      if status ~= 'queued' and status ~= 'started' then redis.call('SREM', KEYS[5], other) end
    end
  end
  local open = redis.call('SCARD', KEYS[5])
  if open >= tonumber(ARGV[5]) then return {{'open', open}} end
end
local inside = tonumber(ARGV[2])
for place = 7, 9 do
  local _, waiting = queued(KEYS[place])
  local _, in_flight = running(KEYS[place + 3])
  inside = inside + waiting + in_flight
end
if inside > tonumber(ARGV[3]) then return {{'full'}} end
local deadline_at = ARGV[4] == '' and '' or string.format('%.3f', now + tonumber(ARGV[4]))
redis.call('HSET', KEYS[2], unpack(ARGV, 8))
if deadline_at ~= '' then redis.call('HSET', KEYS[2], 'deadline_at', deadline_at) end
redis.call('ZADD', KEYS[4], now, id)
redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -{JOBS_LISTED + 1})
redis.call('EXPIRE', KEYS[4], {OWNER_TTL_S})
if ARGV[5] ~= '' then
  redis.call('SADD', KEYS[5], id)
  redis.call('EXPIRE', KEYS[5], {OWNER_TTL_S})
end
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[6], 'job_id', id, 'fingerprint', ARGV[6])
  redis.call('EXPIRE', KEYS[6], {IDEMPOTENCY_TTL_S})
end
if ARGV[7] ~= '' then
  redis.call('XADD', 'movq:events:' .. id, '*', 'type', 'queued', 'data', '{{}}')
  redis.call('ZADD', 'movq:watchers:' .. id, now + tonumber(ARGV[7]), '{SUBMITTER}')
  redis.call('EXPIRE', 'movq:watchers:' .. id, 60)
end
local position = redis.call('RPUSH', KEYS[1], id)
if position == 1 then redis.call('SADD', KEYS[3], KEYS[1]) end
return {{'queued', position, deadline_at}}
"""
)

# KEYS queue, job, registry of cancelled jobs. ARGV job id; now, as RQ writes it; seconds that the record is
# kept. Ends a job that waits; whether it was in the queue, so that no worker has it. RQ never empties its
# registry; the scores are the times of cancelling.
CANCEL = (
    TELL
    + """
local id, ttl, now = ARGV[1], tonumber(ARGV[3]), tonumber(redis.call('TIME')[1])
local status, webhook_url = unpack(redis.call('HMGET', KEYS[2], 'status', 'webhook_url'))
if status ~= 'queued' or redis.call('LREM', KEYS[1], 1, id) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'status', 'canceled', 'ended_at', ARGV[2])
redis.call('EXPIRE', KEYS[2], ttl)
redis.call('ZADD', KEYS[3], now, id)
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, now - ttl)
if tell(id, 'done', '{"status": "cancelled"}') then redis.call('EXPIRE', 'movq:events:' .. id, ttl) end
hand_over(id, webhook_url)
return 1
"""
)

# KEYS job. Leaves word that a job that runs shall stop, for a worker who does not hear the message.
STOP = """
if redis.call('HGET', KEYS[1], 'status') ~= 'started' then return 0 end
redis.call('HSET', KEYS[1], 'stop', 1)
return 1
"""

# KEYS the bundle's three queues, their registries of running executions, and of finished jobs. ARGV seconds
# that a finished record is kept; how far back, and of how many jobs of a queue, runs are looked for.
# Returns jobs and images of each queue; {images, seconds since it was taken, steps} of each job that runs;
# and {images, start, end, steps} of each that succeeded lately. RQ scores a finished job by its expiry, which
# is a fixed time after its end.
LOAD = (
    _COUNT
    + """
local told, in_flight, runs = {}, {}, {}
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(ARGV[1])
for place = 1, 3 do
  local jobs, images = queued(KEYS[place])
  table.insert(told, jobs)
  table.insert(told, images)
  local taken = redis.call('SORT', KEYS[place + 3], 'BY', 'nosort',
    'GET', 'rq:execution:*->images', 'GET', 'rq:execution:*->created_at', 'GET', 'rq:execution:*->steps')
  for i = 1, #taken, 3 do
    local age = taken[i + 1] and clock[1] + clock[2] / 1e6 - (tonumber(taken[i + 1]) or clock[1]) or 0
    table.insert(in_flight, {taken[i] or 1, tostring(age), taken[i + 2] or 1})
  end
  local since = now - tonumber(ARGV[2])
  local recent =
    redis.call('ZREVRANGEBYSCORE', KEYS[place + 6], '+inf', since, 'LIMIT', 0, ARGV[3])
  for _, id in ipairs(recent) do
    table.insert(runs, redis.call('HMGET', 'rq:job:' .. id, 'images', 'started_at', 'ended_at', 'steps'))
  end
end
table.insert(told, in_flight)
table.insert(told, runs)
return told
"""
)

# KEYS job, its events, its watchers. ARGV job id; listener; seconds until it lapses.
# Registers a listener, tells the workers of the first, and makes the stream with the job's present state as
# first entry. A job that ended where nobody could append an event (RQ's own tools did it) is done all the
# same. Returns nothing when there is no such job; else whether it is over.
WATCH = """
local id = ARGV[1]
local status, origin = unpack(redis.call('HMGET', KEYS[1], 'status', 'origin'))
if not status then return false end
local ended = not (status == 'queued' or status == 'started')
local words = {queued = 'queued', started = 'started'}
local ends = {finished = 'succeeded', failed = 'failed'}
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if not last or (ended and last[2][2] ~= 'done') then
  local data = ended and '{"status": "' .. (ends[status] or 'cancelled') .. '"}' or '{}'
  redis.call('XADD', KEYS[2], '*', 'type', words[status] or 'done', 'data', data)
end
if ended then
  local ttl = redis.call('TTL', KEYS[1])
  if ttl > 0 then redis.call('EXPIRE', KEYS[2], ttl) end
  return 1
end
local now = tonumber(redis.call('TIME')[1])
local is_first = redis.call('ZCOUNT', KEYS[3], now, '+inf') == 0
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[3]), ARGV[2])
redis.call('EXPIRE', KEYS[3], 60)
local model = string.match(origin or '', '^movq%.(.+)%.%l+$')
if is_first and model then
  redis.call('PUBLISH', 'movq:watch:' .. model, cjson.encode({job_id = id, watched = true}))
end
return 0
"""

# ARGV listener; seconds until it lapses; job ids. It still listens to these.
RENEW_WATCHES = """
local now = tonumber(redis.call('TIME')[1])
for place = 3, #ARGV do
  local key = 'movq:watchers:' .. ARGV[place]
  redis.call('ZADD', key, now + tonumber(ARGV[2]), ARGV[1])
  redis.call('EXPIRE', key, 60)
end
"""

# KEYS job, its watchers. ARGV job id; listener. The listener has gone; the workers hear it of the last one.
UNWATCH = """
if redis.call('ZREM', KEYS[2], ARGV[2]) == 0 then return 0 end
local now = tonumber(redis.call('TIME')[1])
if redis.call('ZCOUNT', KEYS[2], now, '+inf') > 0 then return 0 end
redis.call('DEL', KEYS[2])
local model = string.match(redis.call('HGET', KEYS[1], 'origin') or '', '^movq%.(.+)%.%l+$')
if not model then return 0 end
redis.call('PUBLISH', 'movq:watch:' .. model, cjson.encode({job_id = ARGV[1], watched = false}))
return 1
"""
