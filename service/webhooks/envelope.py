"""Envelopes: what a webhook says of a job that is over."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel

from movq_core.errors import JobNotFound
from service.catalog import Catalog
from service.documents import JobDocument, job_document
from service.jobs import JobStore
from service.webhooks.sender import Delivery


class Envelope(BaseModel):
    """A webhook's body. `type`: job.succeeded, job.failed or job.cancelled; `timestamp`: when that was."""

    type: str
    timestamp: datetime
    data: JobDocument


class Envelopes:
    """Looks ended jobs up, and words their deliveries."""

    def __init__(self, jobs: JobStore, catalog: Catalog) -> None:
        self._jobs, self._catalog = jobs, catalog

    async def delivery(self, job_id: str) -> Delivery:
        """What is to be sent of this job. Raises JobNotFound when there is nothing left to tell."""
        job = await self._jobs.get(job_id)
        if job.webhook_url is None or not job.is_final:
            raise JobNotFound(f"Job {job_id} is not over, or nobody is to be told.")
        bundle = self._catalog.find(job.model)
        envelope = Envelope(
            type=f"job.{job.status.value}",
            timestamp=job.finished_at or datetime.now(UTC),
            data=job_document(job, bundle.manifest if bundle else None),
        )
        return Delivery(
            message_id=f"webhook-{job_id}",
            url=job.webhook_url,
            body=envelope.model_dump_json(),
            job_id=job_id,
            request_id=job.request_id,
            traceparent=job.traceparent,
        )
