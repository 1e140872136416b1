"""One service with many releases: a copy of the present adapter and a successor for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.models.base_model import read_base_model
from tests.canaries.kinds import KINDS
from tests.canaries.successors import write
from tests.served.configuration import ENGINE, SMOLLM2
from tests.served.server import PATIENT

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
    folder: Path, releases: Sequence[Planned], plan: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the versions into a folder; the configuration of a service that releases them.

    `plan` is each release's but for its version.
    """
    base = read_base_model(SMOLLM2, name=MODEL, max_rank=8)
    adapters, plans = [], {}
    for each in releases:
        kind = KINDS[each.kind]
        # Releases of one adapter share what they follow, unless their kind changes this too.
        present = folder / f"{each.kind if kind.present else kind.adapter}-present"
        if not present.exists():
            write(base, kind.before, "1.0.0", present)
        # Successors of one kind differ in their version's build, and so in their digest.
        digest = write(base, kind, f"{NEXT}+{each.name}", folder / each.name)
        adapters.append({"source": str(present), "name": each.name})
        plans[each.name] = {"source": str(folder / each.name), "digest": digest, **plan}
        if kind.shadow:
            plans[each.name]["shadow"] = {
                "requests": kind.shadow,
                "share": 1.0,
                "busy_share": 1.0,
            }
    return PATIENT | {
        "model": {"name": MODEL, "path": str(SMOLLM2.resolve())},
        "engine": ENGINE
        | {
            "max_model_len": 1024,
            "max_num_seqs": 16,
            "max_lora_rank": 8,
            "max_loras": 2 * len(adapters),
            # So that a version with a long prompt is slow.
            "enable_prefix_caching": False,
        },
        "adapters": adapters,
        "adapter_cache": {"path": str(folder / "cache")},
        "releases": {"path": str(folder / "releases"), "plans": plans},
    }


def spoil(config: Mapping[str, Any], releases: Sequence[Planned]) -> None:
    """Change what successors of some kinds have in the cache of a service that serves them."""
    for each in releases:
        if later := KINDS[each.kind].later:
            digest = config["releases"]["plans"][each.name]["digest"].removeprefix("sha256:")
            later(Path(config["adapter_cache"]["path"]) / "entries" / digest)
