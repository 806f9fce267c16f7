"""What the worker relies on in RQ 3.0, much of it private: an upgrade must fail here first."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.utils import utcformat
from rq.worker import BaseWorker


def test_rq_is_the_version_that_was_tried() -> None:
    assert version("rq").startswith("3.0.")


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (Job.__init__, "self id connection serializer"),
        (Job.restore, "self raw_data"),
        (
            Result.__init__,
            "self job_id type connection id created_at return_value exc_string worker_name serializer "
            "execution_id execution_started_at execution_ended_at",
        ),
        (Result.serialize, "self"),
        (IntermediateQueue.get_job_ids, "self"),
        (BaseWorker.register_birth, "self"),
        (BaseWorker.register_death, "self"),
        (BaseWorker.unsubscribe, "self"),
        (BaseWorker.serialize, "self"),
        (BaseWorker.set_state, "self state pipeline"),
        (BaseWorker.heartbeat, "self timeout pipeline"),
        # Those that are overridden: RQ must still call them as it did.
        (BaseWorker.handle_payload, "self message"),
        (BaseWorker.subscribe, "self"),
        (BaseWorker._pubsub_exception_handler, "self exc pubsub pubsub_thread"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signatures(function: Callable[..., Any], parameters: str) -> None:
    assert " ".join(inspect.signature(function).parameters) == parameters


def test_keys_and_words_that_the_lua_knows() -> None:
    assert Queue.redis_queue_namespace_prefix + "movq" == "rq:queue:movq"
    assert Job.key_for("j") == "rq:job:j"
    assert StartedJobRegistry.key_template.format("movq") == "rq:wip:movq"
    assert FinishedJobRegistry.key_template.format("movq") == "rq:finished:movq"
    assert FailedJobRegistry.key_template.format("movq") == "rq:failed:movq"
    assert Execution("e", "j", connection=None).key == "rq:execution:j:e"  # type: ignore[arg-type]
    assert Execution("e", "j", connection=None).composite_key == "j:e"  # type: ignore[arg-type]
    assert ExecutionRegistry("j", connection=None).key == "rq:executions:j"  # type: ignore[arg-type]
    assert WORKER_EXECUTIONS_KEY_TEMPLATE.format("w") == "rq:worker:w:executions"
    assert BaseWorker.redis_worker_namespace_prefix + "w" == "rq:worker:w"
    assert Result.get_key("j") == "rq:results:j"
    words = (JobStatus.QUEUED.value, JobStatus.STARTED.value, JobStatus.CANCELED.value)
    assert words == ("queued", "started", "canceled")


def test_what_a_claim_writes_is_what_rq_writes() -> None:
    """TAKE stands for these two; what they write has not changed."""
    claimed = inspect.getsource(Job.prepare_for_execution)
    for name in ("last_heartbeat", "status", "started_at", "worker_name"):
        assert f"'{name}'" in claimed
    execution = Execution("e", "j", connection=None)  # type: ignore[arg-type]
    assert set(execution.serialize()) == {"id", "job_id", "created_at", "last_heartbeat", "worker_name"}
    assert utcformat(execution.created_at).endswith("Z")
    assert "connection.xadd(key, self.serialize(), maxlen=10)" in inspect.getsource(Result.save)
