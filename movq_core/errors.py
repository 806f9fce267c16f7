"""Everything that movq raises on purpose.

MovqError
|-- InvalidRequest        the caller asked for something that is not allowed; says what is
|   |-- InvalidImage      the bytes are not an image that we take
|   |-- ImageTooLarge     an image, but of more pixels or bytes than we take
|   `-- InvalidMovqFile   not a .movq file, damaged, or of another bundle
|-- BundleError           a model folder is missing, incomplete or does not fit
|-- BlobNotFound          no bytes are stored under this key
|-- BlobStoreUnavailable  the store of images and uploads cannot be reached, is full, or refuses
|-- JobNotFound           no such job, or its result has expired
|-- QueueFull             overload, said at the door; carries `retry_after_s`
|-- TooManyRequests       this caller asks for too much; carries `retry_after_s`
|-- IdempotencyConflict   the Idempotency-Key was used before, with another request
|-- QueueUnavailable      Redis cannot be reached, or refuses writes
|-- JobFailed             a job came to its end without a result
|   `-- DeadlineMissed    because its caller's own deadline had passed
|-- DeviceFault           the accelerator is in an unknown state: the process must end
`-- TracingUnavailable    traces are asked for, and cannot be sent as this process is configured
"""

from __future__ import annotations


class MovqError(Exception):
    """Root of the tree; `str(error)` is a sentence fit for the caller."""


class InvalidRequest(MovqError):
    """The caller asked for something that is not allowed."""


class InvalidImage(InvalidRequest):
    """The bytes are not an image that we take."""


class ImageTooLarge(InvalidRequest):
    """The image has more pixels or bytes than we take."""


class InvalidMovqFile(InvalidRequest):
    """The bytes are not a `.movq` file, are damaged, or belong to another bundle."""


class BundleError(MovqError):
    """A model folder is missing, incomplete or does not fit."""


class BlobNotFound(MovqError):
    """No bytes are stored under this key."""


class BlobStoreUnavailable(MovqError):
    """The store of images and uploads cannot be reached, is full, or refuses."""


class JobNotFound(MovqError):
    """There is no such job, or its result has expired."""


class QueueFull(MovqError):
    """The queue holds as many images as it may; come back in `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyRequests(MovqError):
    """This caller has reached its own limit; come back in `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IdempotencyConflict(MovqError):
    """The Idempotency-Key was used before, with another request."""


class QueueUnavailable(MovqError):
    """Redis cannot be reached, or refuses writes."""


class JobFailed(MovqError):
    """A job came to its end without a result."""


class DeadlineMissed(JobFailed):
    """A job was not done by the deadline that its caller had set."""


class DeviceFault(MovqError):
    """The accelerator is in an unknown state; the process must end."""


class TracingUnavailable(MovqError):
    """Traces are asked for, and cannot be sent as this process is configured."""
