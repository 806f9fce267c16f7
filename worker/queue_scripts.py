"""The Lua that keeps each job with exactly one owner; run by `rq_worker.py` alone.

Every script is atomic: no crash and no second worker can fall between its lines, and each costs one round
trip. Leases are compared with the server's clock: workers on several hosts need not agree on the time. The
keys are RQ's, and what stands in them is what RQ's own tools read; QUEUE is `movq.<bundle>.<priority>`:

    rq:queue:QUEUE                  list: ids of the jobs that wait
    rq:job:ID                       hash: the job; ours are `images`, `steps`, `owner`, `deadline_s`,
                                    `deadline_at`, `webhook_url`, `request_id`, `traceparent`, `progress`,
                                    `lost` and `stop`
    rq:wip:QUEUE                    sorted set: `ID:EXECUTION` -> end of the lease; the entry is the ownership
    rq:execution:ID:EXECUTION       hash: which worker, since when; ours are `images` and `steps`, which the
                                    service adds up
    rq:executions:ID                sorted set: the job's executions, to tell whom to stop
    rq:worker:NAME:executions       set: the worker's `ID:EXECUTION`, which `rq info` counts
    rq:results:ID                   stream: how it ended; the service waits on it
    rq:finished:QUEUE, rq:failed:QUEUE   sorted sets: ended jobs -> when their record expires

An execution's own keys expire with its lease from its first renewal on; until then TAKE's entry in `wip` is
what a reaper finds them by. The keys of a job's events, and how one is told, are in `movq_core/events.py`.
"""

from __future__ import annotations

from movq_core.events import TELL
from movq_core.params import MAX_STEPS
from movq_core.protocol import MAX_IMAGES, Priority

_WEIGHTS = ", ".join(str(priority.weight) for priority in Priority)

# KEYS the bundle's three queues and their three wips, the worker, its executions. ARGV images that there is
# room for; lease in seconds; the worker's name and state; now, as RQ writes it and in seconds; what each
# queue has used by its weight; execution ids, one for each job at most.
# Moves jobs from the queues to the worker while there is room, each from the queue that has used least
# (start-time fair queueing, as `turns.py` has it, charged by images; a queue that is found empty keeps no
# credit). Returns {what each queue has used now, {place of its queue, job id, execution id, whether it is
# watched, seconds to its deadline, record} each}. Ids without a job, ids that RQ would not give, and jobs
# that were cancelled, are dropped, as RQ does. A job that lost a worker is the last to be taken: it may have
# to run alone.
TAKE = (
    TELL
    + f"""
local room, lease, name = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local clock = redis.call('TIME')
local server_now = tonumber(clock[1])
local weights, used, waiting = {{{_WEIGHTS}}}, {{}}, {{}}
for place = 1, 3 do
  used[place] = tonumber(ARGV[6 + place])
  waiting[place] = redis.call('LLEN', KEYS[place])
end
local level
local function next_queue()
  local next
  for place = 1, 3 do
    if waiting[place] > 0 and (not next or used[place] < used[next]) then next = place end
  end
  return next
end
local taken, most = {{}}, #ARGV - 9
while room > 0 and #taken < most do
  local place = next_queue()
  if not place then break end
  waiting[place] = waiting[place] - 1
  local id = redis.call('LPOP', KEYS[place])
  local key = 'rq:job:' .. id
  local record = redis.pcall('HGETALL', key)
  local job = {{}}
  for i = 1, #record, 2 do job[record[i]] = record[i + 1] end
  if job.status == 'queued' and string.match(id, '^[%w_-]+$') then
    local execution = ARGV[10 + #taken]
    local member = id .. ':' .. execution
    local images = tonumber(job.images or 1) or 1
    if not (images >= 1 and images <= {MAX_IMAGES}) then images = 1 end
    local steps = tonumber(job.steps or 1) or 1
    if not (steps >= 1 and steps <= {MAX_STEPS}) then steps = 1 end
    level, used[place] = used[place], used[place] + images / weights[place]
    redis.call('HSET', key, 'status', 'started', 'worker_name', name,
      'started_at', ARGV[5], 'last_heartbeat', ARGV[5])
    -- A record that ran before may carry the expiry of its end, and a foreign one that of its wait.
    if job.ttl or (job.worker_name or '') ~= '' then redis.call('PERSIST', key) end
    if job.progress then redis.call('HDEL', key, 'progress') end
    redis.call('ZADD', KEYS[place + 3], server_now + lease, member)
    redis.call('HSET', 'rq:execution:' .. member, 'id', execution, 'job_id', id, 'worker_name', name,
      'created_at', ARGV[6], 'last_heartbeat', ARGV[6], 'images', images, 'steps', steps)
    redis.call('ZADD', 'rq:executions:' .. id, server_now + lease + 60, execution)
    redis.call('SADD', KEYS[8], member)
    local watched = tell(id, 'started', '{{}}') and is_watched(id, server_now)
    local left = tonumber(job.deadline_at) and tostring(job.deadline_at - server_now - clock[2] / 1e6) or ''
    table.insert(taken, {{place, id, execution, watched and 1 or 0, left, record}})
    room = job.lost and 0 or room - images
  end
end
for place = 1, 3 do
  if level and waiting[place] == 0 then used[place] = math.max(used[place], level) end
  used[place] = string.format('%.17g', used[place])
end
if #taken > 0 and ARGV[4] ~= 'busy' then redis.call('HSET', KEYS[7], 'state', 'busy') end
return {{used, taken}}
"""
)

# KEYS wip, job, execution, the job's executions, the worker's. ARGV member, execution id, job id, lease in
# seconds, progress or nothing.
# Renews a lease, or forgets an execution that is not ours any more. `Execution.heartbeat` alone would not
# tell us that the entry was reaped while we were away. Returns whose it is, whether anybody watches it, and
# whether it shall stop: a watcher that died told nobody, and messages are lost when nobody hears them.
EXTEND = (
    TELL
    + """
local status = redis.call('HGET', KEYS[2], 'status')
if status ~= 'started' or not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[3])
  redis.call('ZREM', KEYS[4], ARGV[2])
  redis.call('SREM', KEYS[5], ARGV[1])
  return {status == 'canceled' and 'canceled' or 'lost', 0, 0}
end
local now = tonumber(redis.call('TIME')[1])
local lease = tonumber(ARGV[4])
redis.call('ZADD', KEYS[1], 'XX', now + lease, ARGV[1])
redis.call('HSET', KEYS[3], 'last_heartbeat', now)
redis.call('EXPIRE', KEYS[3], lease)
redis.call('ZADD', KEYS[4], 'XX', now + lease + 60, ARGV[2])
redis.call('EXPIRE', KEYS[4], lease + 60)
if ARGV[5] ~= '' then redis.call('HSET', KEYS[2], 'progress', ARGV[5]) end
return {'owned', is_watched(ARGV[3], now) and 1 or 0, redis.call('HEXISTS', KEYS[2], 'stop')}
"""
)

# KEYS wip. ARGV member, job id; type and data of each event. Tells what goes on in a job, if it is ours still
# and somebody listens.
TELL_EVENTS = (
    TELL
    + """
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return end
for place = 3, #ARGV, 2 do
  if not tell(ARGV[2], ARGV[place], ARGV[place + 1]) then return end
end
"""
)

# KEYS wip, job, execution, the job's executions, the worker's, the job's results, registry of jobs that ended
# so, queue. ARGV member, execution id, job id; seconds that the record is kept (-1: for ever, 0: not at all),
# when that ends; data of the event that tells of it; how many of the rest are fields of the job; these;
# fields of its result, none when it shall run again.
# Ends an execution, if it is still ours: the fence and the commit are one.
END = (
    TELL
    + """
local owned = redis.call('ZREM', KEYS[1], ARGV[1])
local status, webhook_url = unpack(redis.call('HMGET', KEYS[2], 'status', 'webhook_url'))
redis.call('SREM', KEYS[5], ARGV[1])
if owned == 0 or status ~= 'started' then
  redis.call('DEL', KEYS[3])
  redis.call('ZREM', KEYS[4], ARGV[2])
  return status == 'canceled' and 'canceled' or 'lost'
end
redis.call('DEL', KEYS[3], KEYS[4])
local ttl, last_field = tonumber(ARGV[4]), 7 + tonumber(ARGV[7])
local again = last_field == #ARGV and ttl ~= 0
local was_told = tell(ARGV[3], again and 'queued' or 'done', ARGV[6])
if not again then
  if was_told and ttl >= 0 then redis.call('EXPIRE', 'movq:events:' .. ARGV[3], math.max(60, ttl)) end
  hand_over(ARGV[3], webhook_url)
end
if ttl == 0 then
  redis.call('DEL', KEYS[2])
  return 'owned'
end
redis.call('HSET', KEYS[2], unpack(ARGV, 8, last_field))
if again then
  redis.call('RPUSH', KEYS[8], ARGV[3])
  return 'owned'
end
redis.call('XADD', KEYS[6], 'MAXLEN', '~', 10, '*', unpack(ARGV, last_field + 1))
redis.call('ZADD', KEYS[7], ARGV[5], ARGV[3])
if ttl > 0 then
  redis.call('EXPIRE', KEYS[6], ttl)
  redis.call('EXPIRE', KEYS[2], ttl)
end
return 'owned'
"""
)

# KEYS wip, job, execution, the job's executions, the worker's, queue. ARGV member, execution id, job id.
# Hands a job back to the head of the queue, unless somebody else runs it by now; it was not the job's fault,
# so no retry is spent.
GIVE_BACK = (
    TELL
    + """
redis.call('SREM', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[2])
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
if redis.call('HGET', KEYS[2], 'status') ~= 'started' or redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
redis.call('HSET', KEYS[2], 'status', 'queued', 'worker_name', '', 'started_at', '')
redis.call('LPUSH', KEYS[6], ARGV[3])
tell(ARGV[3], 'queued', '{}')
return 1
"""
)

# KEYS the bundle's three queues, their three wips. ARGV the reaper's execution id; its lease in seconds; how
# many at most of each.
# Returns {{job id, request id} of each that was put back, {place of its queue, job id} of each without a
# retry left}. The latter stay in `wip` under the reaper's own execution id until it has failed them: their
# late owner finds its lease lost, and should the reaper die, another one finds them here. What is put back is
# marked `lost`: see Claim.
REAP = (
    TELL
    + """
local now = tonumber(redis.call('TIME')[1])
local back, exhausted = {}, {}
local function reap(place, member)
  local queue, wip = KEYS[place], KEYS[place + 3]
  local id, execution = string.match(member, '^([^:]+):?(.*)$')
  local job = 'rq:job:' .. id
  local status, retries_left, worker, request_id =
    unpack(redis.call('HMGET', job, 'status', 'retries_left', 'worker_name', 'request_id'))
  redis.call('ZREM', wip, member)
  redis.call('DEL', 'rq:execution:' .. member)
  redis.call('ZREM', 'rq:executions:' .. id, execution)
  if worker then redis.call('SREM', 'rq:worker:' .. worker .. ':executions', member) end
  if status ~= 'started' then return end
  local retries = tonumber(retries_left or '') or 0
  if retries > 0 then
    redis.call('HSET', job, 'status', 'queued', 'retries_left', retries - 1, 'worker_name', '', 'lost', 1)
    redis.call('LPUSH', queue, id)
    tell(id, 'queued', '{}')
    table.insert(back, {id, request_id or ''})
  else
    redis.call('ZADD', wip, now + tonumber(ARGV[2]), id .. ':' .. ARGV[1])
    table.insert(exhausted, {place, id})
  end
end
for place = 1, 3 do
  local expired = redis.call('ZRANGEBYSCORE', KEYS[place + 3], 0, '(' .. now, 'LIMIT', 0, ARGV[3])
  for _, member in ipairs(expired) do reap(place, member) end
end
return {back, exhausted}
"""
)

# KEYS intermediate list, queue, job. ARGV job id.
# For an id whose taker died in the middle: TAKE has no middle, but RQ's own way of taking has one. Nothing
# ran, so no retry is spent.
RETURN_STRANDED = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
if redis.call('HGET', KEYS[3], 'status') ~= 'queued' then return 0 end
redis.call('HSET', KEYS[3], 'status', 'queued')
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
"""
