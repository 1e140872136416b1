"""The service under observation: the one-layer model, an adapter, tenants with quotas."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from service.adapters.manifest import CONFIG_FILE, WEIGHTS_FILE
from service.adapters.manifest_yaml import load_manifest
from service.models.base_model import ServedBase
from tests.served.configuration import ENGINE, SMOLLM2
from tests.served.lora import LoraMaker
from tests.served.server import Server
from tests.served.tiny import build_tiny_model
from tools.keys import entry, write_keys
from training.packing import pack

MODEL, ADAPTER, BROKEN, NEXT, SORTER = "tiny", "demo", "broken", "demo-next", "sorter"
TENANTS = {"gold": 4.0, "silver": 1.0, "small": 1.0}


@dataclass
class Site:
    """Files of one service; `write` makes a configuration of some adapters current."""

    folder: Path
    store: str

    @property
    def keys(self) -> Path:
        """The file of the tenants' keys."""
        return self.folder / "keys.yaml"

    @classmethod
    def build(cls, folder: Path, store: str) -> "Site":
        """Make the model, an adapter, its next version, one with changed bytes, a classifier."""
        site = cls(folder, store)
        build_tiny_model(SMOLLM2, folder / "model")
        maker = LoraMaker(folder / "model", MODEL)
        prompts = ("Hello there", "What now?")
        for place, name, version in (
            (ADAPTER, ADAPTER, "1.0.0"),
            (NEXT, ADAPTER, "1.1.0"),
            (BROKEN, BROKEN, "1.0.0"),
        ):
            maker.write(
                folder / place, name=name, version=version, seed=1, prompts=prompts, tokens=4
            )
        _write_sorter(folder, maker.base)
        golden = folder / BROKEN / "golden.jsonl"
        golden.write_text(golden.read_text() + "\n")
        site.write_keys(list(TENANTS))
        site.write([ADAPTER, BROKEN])
        return site

    def write(
        self, adapters: list[str], *, required: bool = False, released: bool = True
    ) -> dict[str, Any]:
        """Write the configuration that serves these adapters and the classifier.

        Where `released`, it releases the next version.
        """
        config = {
            "model": {"name": MODEL, "path": str(self.folder / "model")},
            "engine": ENGINE
            | {
                "dtype": "float32",
                "max_model_len": 512,
                "max_num_seqs": 16,
                "block_size": 32,
                "num_gpu_blocks_override": 120,
            },
            "admission": {
                "max_wait_ms": 60_000,
                "max_queued": 2048,
                "storage": f"{self.store}/1",
            },
            "tenants": {"keys": str(self.keys)},
            "quotas": {"storage": self.store},
            "batches": {"path": str(self.folder / "batches")},
            "adapters": [
                {"source": str(self.folder / name), "required": required}
                for name in (*adapters, SORTER)
            ],
            "adapter_cache": {"path": str(self.folder / "cache")},
            "releases": {
                "storage": f"{self.store}/2",
                "plans": {ADAPTER: self._plan()} if released else {},
            },
            # No answer comes within a microsecond, so requests for the adapter miss their
            # objective.
            "slo": {"ttft_ms": 5000, "tpot_ms": 1000, "models": {ADAPTER: {"ttft_ms": 0.001}}},
            "drain": {"lame_duck_s": 1.0, "budget_s": 4.0},
        }
        (self.folder / "config.yaml").write_text(json.dumps(config))
        return config

    def _plan(self) -> dict[str, Any]:
        return {
            "source": str(self.folder / NEXT),
            "digest": load_manifest(self.folder / NEXT).digest,
            "sticky": "request",
            "canary": [{"share": 0.5, "requests": 100_000}],
        }

    def write_keys(self, names: list[str]) -> None:
        """Write the tenants' keys; `small` has a small quota."""
        small = {"requests_per_minute": 30}
        write_keys(
            self.keys,
            *(
                entry(
                    name,
                    weight=TENANTS.get(name, 1.0),
                    quotas=small if name == "small" else {},
                )
                for name in names
            ),
        )


def _write_sorter(folder: Path, base: ServedBase) -> None:
    """Write a classifier with the demo adapter's weights."""
    (folder / SORTER).mkdir()
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copy(folder / ADAPTER / file, folder / SORTER / file)
    draft = {
        "name": SORTER,
        "version": "1.0.0",
        "task": "classification",
        "prompt": {"template": "{input} This is"},
        "classification": {"labels": {"good": " good", "bad": " bad"}},
    }
    pack(folder / SORTER, base, draft)


def series_of(server: Server) -> int:
    """Number of series that the service shows."""
    text = httpx.get(f"{server.ops}/metrics", timeout=10).text
    return sum(1 for line in text.splitlines() if line and not line.startswith("#"))
