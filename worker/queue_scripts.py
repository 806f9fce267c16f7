"""The Lua that keeps each job with exactly one owner; run by `rq_worker.py` alone.

Every script is atomic, so that no crash and no second worker can fall between its lines. Leases are
compared with the server's clock: workers on several hosts need not agree on the time. The keys are
RQ's: `wip` is the sorted set `job:execution` -> end of the lease, one for the queue.
"""

from __future__ import annotations

# KEYS wip, job, execution, the job's executions. ARGV member, execution id, lease in seconds.
# Renews a lease, and fences: only an "owned" job may be finished. `Execution.heartbeat` alone would
# not tell us that the entry was reaped while we were away.
EXTEND = """
local status = redis.call('HGET', KEYS[2], 'status')
if status == 'canceled' then return 'canceled' end
if status ~= 'started' or not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 'lost' end
local now = tonumber(redis.call('TIME')[1])
local lease = tonumber(ARGV[3])
redis.call('ZADD', KEYS[1], 'XX', now + lease, ARGV[1])
redis.call('HSET', KEYS[3], 'last_heartbeat', now)
redis.call('EXPIRE', KEYS[3], lease)
redis.call('ZADD', KEYS[4], 'XX', now + lease + 60, ARGV[2])
redis.call('EXPIRE', KEYS[4], lease + 60)
return 'owned'
"""

# KEYS wip, queue, job, execution, the job's executions. ARGV member, execution id, job id.
# Hands a job back to the head of the queue; it was not the job's fault, so no retry is spent.
GIVE_BACK = """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('DEL', KEYS[4])
redis.call('ZREM', KEYS[5], ARGV[2])
if redis.call('HGET', KEYS[3], 'status') ~= 'started' then return 0 end
redis.call('HSET', KEYS[3], 'status', 'queued', 'worker_name', '', 'started_at', '')
redis.call('LPUSH', KEYS[2], ARGV[3])
return 1
"""

# KEYS wip, queue. ARGV prefixes of job, execution and executions keys; the reaper's execution id;
# its lease in seconds; how many at most.
# Returns {job ids put back, job ids without a retry left}. The latter stay in `wip` under the
# reaper's own execution id until it has failed them: their late owner finds its lease lost, and
# should the reaper die, another one finds them here. What is put back is marked `lost`: see Claim.
REAP = """
local now = tonumber(redis.call('TIME')[1])
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], 0, '(' .. now, 'LIMIT', 0, ARGV[6])
local back, exhausted = {}, {}
for _, member in ipairs(expired) do
  local id, execution = string.match(member, '^([^:]+):?(.*)$')
  local job = ARGV[1] .. id
  redis.call('ZREM', KEYS[1], member)
  redis.call('DEL', ARGV[2] .. member)
  redis.call('ZREM', ARGV[3] .. id, execution)
  if redis.call('HGET', job, 'status') == 'started' then
    local retries = tonumber(redis.call('HGET', job, 'retries_left') or '') or 0
    if retries > 0 then
      redis.call('HSET', job, 'status', 'queued', 'retries_left', retries - 1, 'worker_name', '', 'lost', 1)
      redis.call('LPUSH', KEYS[2], id)
      table.insert(back, id)
    else
      redis.call('ZADD', KEYS[1], now + tonumber(ARGV[5]), id .. ':' .. ARGV[4])
      table.insert(exhausted, id)
    end
  end
end
return {back, exhausted}
"""

# KEYS intermediate list, queue, job. ARGV job id.
# For an id whose taker died between LMOVE and its claim; nothing ran, so no retry is spent. The
# HSET breaks the WATCH of a taker that was only slow: either it claims the job, or we put it back.
RETURN_STRANDED = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
if redis.call('HGET', KEYS[3], 'status') ~= 'queued' then return 0 end
redis.call('HSET', KEYS[3], 'status', 'queued')
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
"""
