"""A bare PEFT folder, served on this machine for a look: without manifest, examples or proof."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from service.adapters.manifest import CONFIG_FILE, WEIGHTS_FILE
from service.errors import ConfigurationError
from service.models.base_model import read_base_model
from service.settings.names import ENV_PREFIX, NESTING
from service.settings.tree import Settings
from training.packing import pack

PREFIX = "unproven-"
"""Beginning of the adapter's served name, which answers, logs and series have."""
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `max_lora_rank`."""


def prepare_trial(peft: Path, settings: Settings, target: Path) -> Mapping[str, str]:
    """Copy a PEFT folder to `target`, with a manifest; returns variables that have it served.

    The served adapter is that one alone, named `unproven-FOLDER`, on the loopback. `peft` stays as
    it is. Raises ConfigurationError for a file that is missing, AdapterRefused for an adapter that
    is not one of the base.
    """
    target.mkdir(parents=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (peft / name).is_file():
            raise ConfigurationError(f"{peft}: has no {name}, as PEFT's save_pretrained writes it")
        shutil.copyfile(peft / name, target / name)
    model = settings.base
    base = read_base_model(model.path, name=model.name, max_rank=_RANKS[-1])
    draft = {
        "name": f"{PREFIX}{peft.resolve().name}",
        "version": "0.0.0",
        "task": "generation",
    }
    rank = pack(target, base, draft).rank
    values = {
        ("adapters",): json.dumps([{"source": str(target)}]),
        ("require_proof",): "false",
        ("http", "host"): "127.0.0.1",
        ("http", "ops_host"): "127.0.0.1",
        ("engine", "max_lora_rank"): str(next(each for each in _RANKS if each >= rank)),
    }
    return {ENV_PREFIX + NESTING.join(key).upper(): value for key, value in values.items()}
