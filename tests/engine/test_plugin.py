"""Installation of our operators in vLLM's processes."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from vllm.lora.punica_wrapper.punica_selector import get_punica_wrapper
from vllm.platforms import current_platform
from vllm.utils.import_utils import resolve_obj_by_qualname

from service.errors import ConfigurationError
from service.settings import section as platform
from service.settings.adapters import AdapterSettings
from service.settings.tree import CpuSettings, ModelSettings, Settings
from service.vllm import plugin
from service.vllm.arguments import parse_engine_arguments
from service.vllm.environment import (
    COMPILER_OFF,
    GROUPED_ADAPTERS,
    STARTED_BY_US,
    apply_environment,
)
from service.vllm.patches.adapter_operators import GroupedPunicaWrapper

OURS = EntryPoint(plugin.NAME, "service.vllm.plugin:install", plugin.GROUP)
ENVIRONMENT = os.environ | {STARTED_BY_US: "1"}
THEIRS = "vllm.lora.punica_wrapper.punica_cpu.PunicaWrapperCPU"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # The tested services write to this log.
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        patch.setattr(type(current_platform), "get_punica_wrapper", classmethod(lambda cls: THEIRS))
        os.environ.pop("VLLM_PLUGINS", None)
        os.environ.pop(GROUPED_ADAPTERS, None)
        os.environ[STARTED_BY_US] = "1"
        yield


def settings(*, grouped: bool, adapters: bool = True) -> Settings:
    return Settings(
        model=ModelSettings(name="base", path=Path("/models/base")),
        cpu=CpuSettings(grouped_adapters=grouped),
        adapters=(AdapterSettings(name="a", source="/adapters/a"),) if adapters else (),
    )


def install_packages(monkeypatch: pytest.MonkeyPatch, *plugins: EntryPoint) -> None:
    monkeypatch.setattr(
        plugin, "entry_points", lambda group: EntryPoints(plugins).select(group=group)
    )


def test_the_package_declares_the_plugin() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]

    declared = project["entry-points"][plugin.GROUP]
    assert declared == {OURS.name: OURS.value}
    assert OURS.load() is plugin.install
    assert resolve_obj_by_qualname(plugin._WRAPPER) is GroupedPunicaWrapper


def test_a_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("service.vllm.arguments.ctypes.CDLL", absent)
    with pytest.raises(ConfigurationError, match=r"libnuma\.so\.1, Debian's package libnuma1"):
        parse_engine_arguments(settings(grouped=False))


@pytest.mark.slow
def test_a_process_ends_without_collecting_what_it_holds() -> None:
    # What is registered first is called last.
    program = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 0, len(gc.get_objects())))
from service.vllm.plugin import install
install()
sys.exit(7)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr[-2000:]
    frozen, left = done.stdout.split()[-2:]
    assert frozen == "True"
    assert int(left) < 10_000


@pytest.mark.parametrize(
    ("name", "compiler_off", "used"),
    [("VllmWorker-0", "1", True), ("VllmWorker-0", "0", False), ("EngineCore", "1", False)],
)
def test_eager_workers_make_layers_with_our_kernels(
    name: str, compiler_off: str, used: bool
) -> None:
    program = f"""
import multiprocessing

def look():
    from service.vllm import plugin
    plugin.install()
    plugin.install()
    from vllm.model_executor.custom_op import op_registry_oot
    from vllm.model_executor.layers import utils
    print(*sorted(op_registry_oot), utils.dispatch_cpu_unquantized_gemm.__module__, flush=True)

import vllm
process = multiprocessing.get_context("fork").Process(target=look, name={name!r})
process.start()
process.join()
"""
    told = subprocess.check_output(
        [sys.executable, "-c", program], env=ENVIRONMENT | {COMPILER_OFF: compiler_off}, text=True
    )
    ours = ["RMSNorm", "service.vllm.patches.cpu_calls"]
    assert told.split() == (ours if used else ["vllm.model_executor.layers.utils"])


def test_vllm_makes_our_wrapper_once_installed() -> None:
    os.environ[GROUPED_ADAPTERS] = "1"

    plugin.install()
    plugin.install()

    wrapper = get_punica_wrapper(8, max_batches=2, device="cpu")
    assert isinstance(wrapper, GroupedPunicaWrapper)


def test_a_vllm_that_others_started_is_left_alone() -> None:
    del os.environ[STARTED_BY_US]
    os.environ[GROUPED_ADAPTERS] = "1"
    before = dict(os.environ)

    plugin.install()

    assert current_platform.get_punica_wrapper() == THEIRS
    assert dict(os.environ) == before


@pytest.mark.parametrize("value", [None, "0"])
def test_vllm_keeps_its_own_where_the_setting_is_off(value: str | None) -> None:
    if value is not None:
        os.environ[GROUPED_ADAPTERS] = value

    plugin.install()

    assert current_platform.get_punica_wrapper() == THEIRS


def test_other_platforms_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ[GROUPED_ADAPTERS] = "1"
    monkeypatch.setattr(platform, "installed", lambda: platform.CUDA)

    plugin.install()

    assert current_platform.get_punica_wrapper() == THEIRS


@pytest.mark.parametrize(("grouped", "value"), [(True, "1"), (False, "0")])
def test_the_setting_reaches_the_workers_and_wins(grouped: bool, value: str) -> None:
    os.environ[GROUPED_ADAPTERS] = "0" if grouped else "1"

    apply_environment(settings(grouped=grouped))

    assert os.environ[GROUPED_ADAPTERS] == value


def test_a_start_without_the_plugin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install_packages(monkeypatch, EntryPoint("other", "other:install", plugin.GROUP))

    with pytest.raises(ConfigurationError, match=r"`pip install --no-deps -e \.`"):
        parse_engine_arguments(settings(grouped=True))


def test_a_filter_that_hides_the_plugin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install_packages(monkeypatch, OURS)
    os.environ["VLLM_PLUGINS"] = "other"

    with pytest.raises(ConfigurationError, match="VLLM_PLUGINS='other'"):
        parse_engine_arguments(settings(grouped=True))


@pytest.mark.parametrize("allowed", [None, "other,llm_service"])
def test_a_start_with_the_plugin_is_accepted(
    monkeypatch: pytest.MonkeyPatch, allowed: str | None
) -> None:
    install_packages(monkeypatch, OURS)
    if allowed is not None:
        os.environ["VLLM_PLUGINS"] = allowed

    assert parse_engine_arguments(settings(grouped=True)).enable_lora


@pytest.mark.parametrize(("grouped", "adapters"), [(False, True), (True, False)])
def test_the_plugin_is_needed_only_with_adapters_and_the_setting(
    monkeypatch: pytest.MonkeyPatch, grouped: bool, adapters: bool
) -> None:
    install_packages(monkeypatch)

    parsed = parse_engine_arguments(settings(grouped=grouped, adapters=adapters))

    assert bool(parsed.enable_lora) is adapters
