"""The Lua by which jobs enter the queue; run by `jobs.py` alone."""

from __future__ import annotations

# SORT reads a field of every record that the entries of a key name, in one command: a job that waits has its
# images in its own record, one that runs in its execution's. A foreign one has none, and counts as one image.
QUEUED_IMAGES = "rq:job:*->images"
RUNNING_IMAGES = "rq:execution:*->images"

# KEYS queue, running executions, job, all queues. ARGV the job's images; how many images there may be, with
# these, queued and running; job id; fields of the job.
# Returns the job's place in the queue, 0 when it is full. Count and entry are one: the bound holds whatever
# number of services there is. The first in a queue tells RQ's tools that there is one.
ENQUEUE = f"""
local function images_in(key, field)
  local total = 0
  for _, images in ipairs(redis.call('SORT', key, 'BY', 'nosort', 'GET', field)) do
    total = total + (tonumber(images or 1) or 1)
  end
  return total
end
local inside = images_in(KEYS[1], '{QUEUED_IMAGES}') + images_in(KEYS[2], '{RUNNING_IMAGES}')
if inside + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[3], unpack(ARGV, 4))
local position = redis.call('RPUSH', KEYS[1], ARGV[3])
if position == 1 then redis.call('SADD', KEYS[4], KEYS[1]) end
return position
"""
