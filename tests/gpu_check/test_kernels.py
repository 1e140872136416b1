"""vLLM's kernels beside the same in float64: on Triton's interpreter, from their text alone."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS
from vllm.v1.outputs import LogprobsTensors
from vllm.v1.sample.ops import topk_topp_triton
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch

from tests.gpu_check.kernels import Kernels
from tests.gpu_check.sources import KERNELS, MAX_LABELS, Logprobs
from tests.test_requirements import ROOT, pins

pytestmark = pytest.mark.timeout(900)  # the first run fetches Triton

SIZES = ("--device", "cpu", "--vocabulary", "700", "--hidden", "32")


@pytest.fixture(scope="session")
def triton() -> Path:
    """A folder of Triton, which the CPU build does not need; it is the CUDA build's version."""
    name = f"triton=={pins('cuda')['triton']}"
    folder = ROOT / ".cache" / "tools" / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "triton").is_dir():
            partial = folder.with_suffix(".partial")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
            subprocess.run([*pip, str(partial), name], check=True)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    return folder


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """vLLM's kernels and nothing else of it."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    for name in KERNELS:
        file = Path(name.replace(".", "/") + ".py")
        (tmp_path / "vllm" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(spec.origin).parent / file, tmp_path / "vllm" / file)
    return tmp_path / "vllm"


def check(sources: Path, triton: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Check the kernels on the interpreter, in a process that has no vLLM but these files."""
    environment = {**os.environ, "PYTHONPATH": f"{triton}:{ROOT}", "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "tests.gpu_check.kernels", str(sources), "--out", str(out)]
    return subprocess.run(
        [*command, *SIZES], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_kernels_are_right(sources: Path, triton: Path, tmp_path: Path) -> None:
    run = check(sources, triton, tmp_path / "out")
    assert run.returncode == 0, run.stdout + run.stderr
    report = (tmp_path / "out" / "report.md").read_text()
    assert "- seconds: " in report
    for step in ("min_p", "greedy choice", "20 log-probabilities", "adapters of 300 tokens"):
        assert f"## {step}: ok" in report
    assert f"## label reads of {MAX_LOGPROB_TOKEN_IDS} beside 5 log-probabilities: ok" in report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "right", "wrong", "step"),
    [
        ("v1/worker/gpu/sample/min_p.py", "tl.log(min_p)", "min_p", "min_p"),
        ("v1/worker/gpu/sample/logprob.py", "- max_val - lse", "- max_val", "0 log-probabilities"),
        (
            "v1/worker/gpu/sample/logprob.py",
            "if num_custom > 0:",
            "if num_custom > 1:",
            "label reads of 1 beside",
        ),
        (
            "lora/ops/triton_ops/lora_kernel_metadata.py",
            "torch.cumsum(num_tokens_per_lora, dim=0)",
            "torch.cumsum(num_tokens_per_lora, dim=0) * 0",
            "adapters of 7 tokens",
        ),
    ],
)
def test_a_kernel_that_is_wrong_is_found(
    sources: Path, triton: Path, tmp_path: Path, file: str, right: str, wrong: str, step: str
) -> None:
    text = (sources / file).read_text()
    assert text.count(right) == 1
    (sources / file).write_text(text.replace(right, wrong))
    run = check(sources, triton, tmp_path / "out")
    assert run.returncode == 1, run.stdout + run.stderr
    lines = (tmp_path / "out" / "report.md").read_text().splitlines()
    (failed,) = [line for line in lines if "FAILED" in line]
    assert failed.startswith(f"## {step}")


CUTS = [("k",), ("p",), ("k", "p")]


@pytest.mark.parametrize("cuts", CUTS)
def test_the_reference_of_top_k_and_top_p_is_that_of_vllm(
    monkeypatch: pytest.MonkeyPatch, cuts: tuple[str, ...]
) -> None:
    # The kernel itself needs a GPU; vLLM's own code without Triton stands in for it.
    monkeypatch.setattr(topk_topp_triton, "apply_top_k_top_p_triton", apply_top_k_top_p_pytorch)
    assert Kernels("cpu", 700).cut(5, cuts)["seconds"]


@pytest.mark.parametrize("cuts", CUTS)
def test_a_kernel_that_keeps_too_many_tokens_is_found(
    monkeypatch: pytest.MonkeyPatch, cuts: tuple[str, ...]
) -> None:
    def too_many(logits: torch.Tensor, k: Any, p: Any) -> torch.Tensor:
        kept = apply_top_k_top_p_pytorch(
            logits.clone(), None if k is None else k + 2, None if p is None else p + 0.04
        )
        return torch.as_tensor(kept)

    monkeypatch.setattr(topk_topp_triton, "apply_top_k_top_p_triton", too_many)
    with pytest.raises(AssertionError, match="kept or cut wrongly"):
        Kernels("cpu", 700).cut(5, cuts)


def test_the_stand_ins_are_as_vllms_own() -> None:
    assert MAX_LABELS == MAX_LOGPROB_TOKEN_IDS
    assert Logprobs._fields == LogprobsTensors._fields
