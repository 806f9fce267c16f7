"""The Lua that keeps each job with exactly one owner; run by `rq_worker.py` alone.

Every script is atomic: no crash and no second worker can fall between its lines, and each costs one round
trip. Leases are compared with the server's clock: workers on several hosts need not agree on the time. The
keys are RQ's, and what stands in them is what RQ's own tools read:

    rq:queue:movq                   list: ids of the jobs that wait
    rq:job:ID                       hash: the job
    rq:wip:movq                     sorted set: `ID:EXECUTION` -> end of the lease; the entry is the ownership
    rq:execution:ID:EXECUTION       hash: which worker, since when; `images` is ours, the service adds them up
    rq:executions:ID                sorted set: the job's executions, to tell whom to stop
    rq:worker:NAME:executions       set: the worker's `ID:EXECUTION`, which `rq info` counts
    rq:results:ID                   stream: how it ended; the service waits on it
    rq:finished:movq, rq:failed:movq   sorted sets: ended jobs -> when their record expires

An execution's own keys expire with its lease from its first renewal on; until then TAKE's entry in `wip` is
what a reaper finds them by.
"""

from __future__ import annotations

# KEYS queue, wip, the worker, its executions. ARGV images that there is room for; lease in seconds; the
# worker's name and state; now, as RQ writes it and in seconds; execution ids, one for each job at most.
# Moves jobs from the queue to the worker while there is room. Returns {job id, execution id, record} each.
# Ids without a job, and jobs that were cancelled, are dropped, as RQ does. A job that lost a worker is the
# last to be taken: it may have to run alone.
TAKE = """
local room, lease, name = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local server_now = tonumber(redis.call('TIME')[1])
local ids, taken = redis.call('LPOP', KEYS[1], #ARGV - 6) or {}, {}
local first_left = #ids + 1
for place, id in ipairs(ids) do
  if room <= 0 then
    first_left = place
    break
  end
  local key = 'rq:job:' .. id
  local record = redis.pcall('HGETALL', key)
  local job = {}
  for i = 1, #record, 2 do job[record[i]] = record[i + 1] end
  if job.status == 'queued' then
    local execution = ARGV[7 + #taken]
    local member = id .. ':' .. execution
    local images = tonumber(job.images or 1) or 1
    redis.call('HSET', key, 'status', 'started', 'worker_name', name,
      'started_at', ARGV[5], 'last_heartbeat', ARGV[5])
    -- A record that ran before may carry the expiry of its end, and a foreign one that of its wait.
    if job.ttl or (job.worker_name or '') ~= '' then redis.call('PERSIST', key) end
    redis.call('ZADD', KEYS[2], server_now + lease, member)
    redis.call('HSET', 'rq:execution:' .. member, 'id', execution, 'job_id', id, 'worker_name', name,
      'created_at', ARGV[6], 'last_heartbeat', ARGV[6], 'images', images)
    redis.call('ZADD', 'rq:executions:' .. id, server_now + lease + 60, execution)
    redis.call('SADD', KEYS[4], member)
    table.insert(taken, {id, execution, record})
    room = job.lost and 0 or room - images
  end
end
for place = #ids, first_left, -1 do redis.call('LPUSH', KEYS[1], ids[place]) end
if #taken > 0 and ARGV[4] ~= 'busy' then redis.call('HSET', KEYS[3], 'state', 'busy') end
return taken
"""

# KEYS wip, job, execution, the job's executions, the worker's. ARGV member, execution id, lease in seconds.
# Renews a lease, or forgets an execution that is not ours any more. `Execution.heartbeat` alone would not
# tell us that the entry was reaped while we were away.
EXTEND = """
local status = redis.call('HGET', KEYS[2], 'status')
if status ~= 'started' or not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[3])
  redis.call('ZREM', KEYS[4], ARGV[2])
  redis.call('SREM', KEYS[5], ARGV[1])
  return status == 'canceled' and 'canceled' or 'lost'
end
local now = tonumber(redis.call('TIME')[1])
local lease = tonumber(ARGV[3])
redis.call('ZADD', KEYS[1], 'XX', now + lease, ARGV[1])
redis.call('HSET', KEYS[3], 'last_heartbeat', now)
redis.call('EXPIRE', KEYS[3], lease)
redis.call('ZADD', KEYS[4], 'XX', now + lease + 60, ARGV[2])
redis.call('EXPIRE', KEYS[4], lease + 60)
return 'owned'
"""

# KEYS wip, job, execution, the job's executions, the worker's, the job's results, registry of jobs that ended
# so, queue. ARGV member, execution id, job id; seconds that the record is kept (-1: for ever, 0: not at all),
# when that ends; how many of the rest are fields of the job; these; fields of its result, none when it shall
# run again.
# Ends an execution, if it is still ours: the fence and the commit are one.
END = """
local owned = redis.call('ZREM', KEYS[1], ARGV[1])
local status = redis.call('HGET', KEYS[2], 'status')
redis.call('SREM', KEYS[5], ARGV[1])
if owned == 0 or status ~= 'started' then
  redis.call('DEL', KEYS[3])
  redis.call('ZREM', KEYS[4], ARGV[2])
  return status == 'canceled' and 'canceled' or 'lost'
end
redis.call('DEL', KEYS[3], KEYS[4])
local ttl, last_field = tonumber(ARGV[4]), 6 + tonumber(ARGV[6])
if ttl == 0 then
  redis.call('DEL', KEYS[2])
  return 'owned'
end
redis.call('HSET', KEYS[2], unpack(ARGV, 7, last_field))
if last_field == #ARGV then
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

# KEYS wip, job, execution, the job's executions, the worker's, queue. ARGV member, execution id, job id.
# Hands a job back to the head of the queue, unless somebody else runs it by now; it was not the job's fault,
# so no retry is spent.
GIVE_BACK = """
redis.call('SREM', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[2])
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
if redis.call('HGET', KEYS[2], 'status') ~= 'started' or redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
redis.call('HSET', KEYS[2], 'status', 'queued', 'worker_name', '', 'started_at', '')
redis.call('LPUSH', KEYS[6], ARGV[3])
return 1
"""

# KEYS wip, queue. ARGV the reaper's execution id; its lease in seconds; how many at most.
# Returns {job ids put back, job ids without a retry left}. The latter stay in `wip` under the
# reaper's own execution id until it has failed them: their late owner finds its lease lost, and
# should the reaper die, another one finds them here. What is put back is marked `lost`: see Claim.
REAP = """
local now = tonumber(redis.call('TIME')[1])
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], 0, '(' .. now, 'LIMIT', 0, ARGV[3])
local back, exhausted = {}, {}
for _, member in ipairs(expired) do
  local id, execution = string.match(member, '^([^:]+):?(.*)$')
  local job = 'rq:job:' .. id
  local status, retries_left, worker =
    unpack(redis.call('HMGET', job, 'status', 'retries_left', 'worker_name'))
  redis.call('ZREM', KEYS[1], member)
  redis.call('DEL', 'rq:execution:' .. member)
  redis.call('ZREM', 'rq:executions:' .. id, execution)
  if worker then redis.call('SREM', 'rq:worker:' .. worker .. ':executions', member) end
  if status == 'started' then
    local retries = tonumber(retries_left or '') or 0
    if retries > 0 then
      redis.call('HSET', job, 'status', 'queued', 'retries_left', retries - 1, 'worker_name', '', 'lost', 1)
      redis.call('LPUSH', KEYS[2], id)
      table.insert(back, id)
    else
      redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), id .. ':' .. ARGV[1])
      table.insert(exhausted, id)
    end
  end
end
return {back, exhausted}
"""

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
