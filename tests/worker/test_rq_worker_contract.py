"""What `rq_worker.py` relies on in RQ 3.0, much of it private: an upgrade must fail here first."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from redis.client import Pipeline
from rq import Queue
from rq.executions import Execution, ExecutionRegistry
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.worker import BaseWorker

from worker.rq_worker import _executions_key


def test_rq_is_the_version_that_was_tried() -> None:
    assert version("rq").startswith("3.0.")


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (Queue.dequeue_any, "queues timeout connection job_class serializer death_penalty_class"),
        (Execution.create, "job ttl pipeline worker_name"),
        (Execution.delete, "self job pipeline"),
        (Execution.__init__, "self id job_id connection worker_name"),
        (Job.prepare_for_execution, "self worker_name pipeline"),
        (Job.fetch, "id connection serializer"),
        (IntermediateQueue.get_job_ids, "self"),
        (BaseWorker._finalize_success, "self job queue execution return_value"),
        (
            BaseWorker.handle_job_failure,
            "self job queue started_job_registry exc_string execution",
        ),
        (BaseWorker.register_birth, "self"),
        (BaseWorker.register_death, "self"),
        (BaseWorker.unsubscribe, "self"),
        (BaseWorker.serialize, "self"),
        (BaseWorker.set_state, "self state pipeline"),
        (BaseWorker.heartbeat, "self timeout pipeline"),
        # Those that are overridden: RQ must still call them as it did.
        (BaseWorker.get_heartbeat_ttl, "self job working_time"),
        (BaseWorker.handle_payload, "self message"),
        (BaseWorker.subscribe, "self"),
        (BaseWorker._pubsub_exception_handler, "self exc pubsub pubsub_thread"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signatures(function: Callable[..., Any], parameters: str) -> None:
    assert " ".join(inspect.signature(function).parameters) == parameters


def test_keys_and_words_that_the_lua_knows() -> None:
    assert Job.key_for("j") == Job.redis_job_namespace_prefix + "j"
    assert StartedJobRegistry.key_template.format("movq") == "rq:wip:movq"
    assert Execution("e", "j", connection=None).key == "rq:execution:j:e"  # type: ignore[arg-type]
    assert Execution("e", "j", connection=None).composite_key == "j:e"  # type: ignore[arg-type]
    assert ExecutionRegistry("j", connection=None).key == _executions_key("j")  # type: ignore[arg-type]
    words = (JobStatus.QUEUED.value, JobStatus.STARTED.value, JobStatus.CANCELED.value)
    assert words == ("queued", "started", "canceled")


def test_redis_py_tells_an_outage_under_a_watch_by_the_methods_we_replace() -> None:
    for name in ("_disconnect_raise_on_watching", "_disconnect_reset_raise_on_watching"):
        parameters = list(inspect.signature(getattr(Pipeline, name)).parameters)
        assert parameters[:3] == ["self", "conn", "error"]


def test_a_stopped_job_is_told_by_one_attribute() -> None:
    assert "self._stopped_job_id == job.id" in inspect.getsource(BaseWorker.handle_job_failure)
