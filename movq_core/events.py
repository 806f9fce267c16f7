"""Where a job's events stand in Redis, and the Lua that appends one; for the scripts of service and worker.

movq:events:JOB      stream: `type`, `data` (JSON); there only when somebody listens or has listened
movq:watchers:JOB    sorted set: listener -> when it lapses, by the server's clock
movq:events          channel: the id of a job whose stream has news
movq:watch:MODEL     channel: `{"job_id", "watched"}`, to the workers of a bundle
movq:ended           list: ids of ended jobs that have a `webhook_url`
"""

from __future__ import annotations

EVENTS_CHANNEL = "movq:events"
ENDED_KEY = "movq:ended"
MAX_EVENTS = 1000  # a stream forgets the oldest beyond these, or a few more


def events_key(job_id: str) -> str:
    return f"movq:events:{job_id}"


def watchers_key(job_id: str) -> str:
    return f"movq:watchers:{job_id}"


def watch_channel(model: str) -> str:
    return f"movq:watch:{model}"


# `tell(id, type, data)`: append an event where somebody listens; whether that was so.
# `is_watched(id, now)`: whether anybody listens at this moment.
# `hand_over(id, webhook_url)`: an ended job's id, to those who tell its caller.
TELL = f"""
local function tell(id, event, data)
  local key = 'movq:events:' .. id
  if not redis.call('XADD', key, 'NOMKSTREAM', 'MAXLEN', '~', {MAX_EVENTS}, '*', 'type', event, 'data', data)
  then return false end
  redis.call('PUBLISH', '{EVENTS_CHANNEL}', id)
  return true
end
local function is_watched(id, now)
  return redis.call('ZCOUNT', 'movq:watchers:' .. id, now, '+inf') > 0
end
local function hand_over(id, webhook_url)
  if webhook_url then redis.call('LPUSH', '{ENDED_KEY}', id) end
end
"""
