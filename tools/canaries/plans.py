"""One service with many releases: a copy of the present adapter and a successor for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.model.base_model import read_base_model
from tools.canaries.successors import KINDS, write
from tools.served.configuration import ENGINE, SMOLLM2
from tools.served.server import PATIENT

MODEL = "smollm2-135m-instruct"
NEXT = "1.1.0"


@dataclass(frozen=True, slots=True)
class Planned:
    """A release of a kind, by the name that requests use."""

    name: str
    kind: str


def planned(kinds: Sequence[str]) -> list[Planned]:
    """A release for each kind; a kind that is given twice gets two names."""
    return [Planned(f"{kind}-{number}", kind) for number, kind in enumerate(kinds)]


def configuration(
    folder: Path, releases: Sequence[Planned], steps: Sequence[dict[str, Any]], shadow: int
) -> dict[str, Any]:
    """Write the versions into a folder; the configuration of a service that releases them."""
    base = read_base_model(SMOLLM2, name=MODEL, max_rank=8)
    adapters, plans = [], {}
    for each in releases:
        adapter = KINDS[each.kind].adapter
        present, successor = folder / f"{adapter}-present", folder / each.name
        if not present.exists():
            write(base, None, adapter, "1.0.0", present)
        # Successors of one kind differ in their version's build, and so in their digest.
        version = f"{NEXT}+{each.name}"
        digest = write(base, KINDS[each.kind], adapter, version, successor)
        adapters.append({"source": str(present), "name": each.name})
        plan: dict[str, Any] = {"source": str(successor), "digest": digest, "sticky": "request"}
        if shadow:
            plan["shadow"] = {"requests": shadow, "share": 1.0}
        plans[each.name] = plan | {"canary": list(steps)}
    return PATIENT | {
        "model": {"name": MODEL, "path": str(SMOLLM2.resolve())},
        "engine": ENGINE
        | {
            "max_model_len": 1024,
            "max_num_seqs": 16,
            "max_lora_rank": 8,
            "max_loras": 2 * len(adapters),
        },
        "adapters": adapters,
        "adapter_cache": {"path": str(folder / "cache")},
        "releases": {"path": str(folder / "releases"), "plans": plans},
    }
