"""One process: settings in, two ports out, an exit code that says how it ended."""

import sys

from prometheus_client import REGISTRY

from service.api.ops import create_ops_app
from service.api.server import serve
from service.app import create_app
from service.errors import ConfigurationError
from service.runtime import Status
from service.settings import Settings


def run(settings: Settings) -> None:
    """Serve until asked to stop; raises ConfigurationError if the service could not start."""
    status = Status()
    public = create_app(settings, status, REGISTRY)
    if not serve(public, create_ops_app(status, REGISTRY), settings.http):
        if isinstance(status.failure, ConfigurationError):
            raise status.failure
        sys.exit(3)
