"""movq from Python: images of a class, images to codes and back, parts of images made anew.

    from movq_client import Client

    client = Client("http://127.0.0.1:8000")
    client.generate("smiley", seed=7)[0].save("smiley.png")

See docs/client.md.
"""

from movq_client.async_client import AsyncClient, AsyncJob
from movq_client.client import Client, Job
from movq_client.documents import ClassDocument, Codes, JobDocument, ModelDocument
from movq_client.errors import (
    FieldError,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    JobTimeout,
    MovqError,
    NotFound,
    Overloaded,
    QueueFull,
    RateLimited,
    ServerError,
    ServerUnavailable,
    Unauthorized,
)
from movq_client.events import Event
from movq_client.images import Image, Reconstruction
from movq_client.retries import Retries

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "ClassDocument",
    "Client",
    "Codes",
    "Event",
    "FieldError",
    "Image",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobDocument",
    "JobFailed",
    "JobTimeout",
    "ModelDocument",
    "MovqError",
    "NotFound",
    "Overloaded",
    "QueueFull",
    "RateLimited",
    "Reconstruction",
    "Retries",
    "ServerError",
    "ServerUnavailable",
    "Unauthorized",
]
