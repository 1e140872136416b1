"""Processor as a command sees it under an instruction set; no engine runs."""

import subprocess
import sys

import pytest

LOADED = """
import re, torch
from vllm.platforms import current_platform

current_platform.import_kernels()
(built,) = set(re.findall(r"/vllm/(_C\\w*)", open("/proc/self/maps").read()))
seen = [name for name, has in torch.cpu.get_capabilities().items() if has is True]
print(built, torch.backends.cpu.get_cpu_capability(), *seen)
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.instruction_sets", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_vllm_and_torch_take_the_older_instructions() -> None:
    done = run("--sets", "avx2", sys.executable, "-c", LOADED)
    assert done.returncode == 0, done.stderr
    begun, seen, ended = done.stdout.splitlines()
    assert (begun, ended.split()) == ("==> avx2", ["avx2", "ok"])
    build, aten, *capabilities = seen.split()
    assert (build, aten) == ("_C_AVX2", "AVX2")
    assert "avx2" in capabilities
    assert not [name for name in capabilities if name.startswith(("avx512", "amx"))]


def test_a_command_that_fails_under_one_set_fails() -> None:
    done = run("--sets", "avx2", sys.executable, "-c", "raise SystemExit(3)")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].split() == "avx2 failed with exit code 3".split()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sets", "avx2,sse", "true"], "--sets: must be among avx2, avx512, avx512_bf16, amx"),
        (["--sets", "avx2"], "command: give one"),
    ],
)
def test_a_bad_call_is_told(words: list[str], message: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
