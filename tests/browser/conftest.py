"""The app and the stand-in worker, as the service's own tests have them."""

from tests.service.conftest import base_url, blobs, manifest, settings, worker

__all__ = ["base_url", "blobs", "manifest", "settings", "worker"]
