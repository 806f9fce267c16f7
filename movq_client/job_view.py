"""JobView: a job as it stood when the server was last asked."""

from __future__ import annotations

from movq_client.documents import JobDocument


class JobView:
    """What `Job` and `AsyncJob` have in common; `document` has all that the server said."""

    def __init__(self, document: JobDocument) -> None:
        self.document = document

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, kind={self.document.kind!r}, status={self.status!r})"

    @property
    def id(self) -> str:
        return self.document.id

    @property
    def status(self) -> str:
        """queued, running, succeeded, failed or cancelled."""
        return self.document.status

    @property
    def progress(self) -> float | None:
        """0 to 1, as far as is known."""
        return self.document.progress
