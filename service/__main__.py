"""`python -m service`: the only place that reads the environment (`MOVQ_*`) and wires the parts."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

import uvicorn
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from movq_core.blobs import BlobStore
from movq_core.environment import complaint
from movq_core.errors import BundleError, TracingUnavailable
from movq_core.logs import configure_logs
from movq_core.tracing import open_tracing
from service.app import create_app
from service.catalog import Catalog
from service.events import JobEvents
from service.jobs import JobStore
from service.server import server_options
from service.settings import Settings


class EnvironmentSettings(Settings, BaseSettings):
    """`Settings`, with every field read from `MOVQ_<FIELD>`, or a file `movq_<field>` in MOVQ_SECRETS_DIR."""

    model_config = SettingsConfigDict(
        env_prefix="MOVQ_", frozen=True, extra="ignore", protected_namespaces=()
    )


def main() -> int:
    """Serve until told to stop; 1 when a setting is wrong, or a model's manifest cannot be read."""
    try:
        settings = EnvironmentSettings(_secrets_dir=os.environ.get("MOVQ_SECRETS_DIR"))
        catalog = Catalog(settings.models)
        tracing = open_tracing("movq-service", version("movq"), os.environ)
    except ValidationError as error:
        sys.stderr.write(f"{complaint(error)}\n")
        return 1
    except (BundleError, TracingUnavailable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    configure_logs(settings.log_level)
    blobs = BlobStore(settings.blobs_url)
    app = create_app(settings, JobStore(settings), JobEvents(settings), blobs, catalog, tracing=tracing)
    app.state.context.uploads.start()
    uvicorn.run(app, host=settings.host, port=settings.port, **server_options(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
