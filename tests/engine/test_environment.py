"""Variables of the engine's processes, on a faked platform, with compilers and without."""

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import vllm.envs
from vllm.platforms import current_platform
from vllm.utils.flashinfer import _flashinfer_nvcc_path

from service.settings import section as platform
from service.settings.encoders import EncoderSettings
from service.settings.section import CPU, CUDA
from service.settings.tree import ModelSettings, Settings
from service.vllm import plugin
from service.vllm.environment import (
    COMPILER_OFF,
    LEAST_NVCC,
    STARTED_BY_US,
    apply_environment,
    compiles_kernels,
)
from tests.test_requirements import pins

SETTINGS = Settings(model=ModelSettings(name="base", path=Path("/models/base")))
COMPILED = {"VLLM_USE_FLASHINFER_SAMPLER", "VLLM_USE_DEEP_GEMM", "VLLM_MOE_USE_DEEP_GEMM"}
TOOLS = ("cuda/bin/nvcc", "bin/g++", "bin/ninja")

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", kept)
        patch.setitem(sys.modules, "flashinfer", None)
        del sys.modules["flashinfer"]  # also after the test
        yield


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts programs on a path that holds no other, below CUDA's and the system's folder."""

    def install(*tools: str, variable: str = "CUDA_HOME", release: str = "13.0") -> None:
        for tool in tools:
            (tmp_path / tool).parent.mkdir(parents=True, exist_ok=True)
            told = f"Cuda compilation tools, release {release}, V{release}.88"
            (tmp_path / tool).write_text(f"#!/bin/sh\necho '{told}'\n")
            (tmp_path / tool).chmod(0o755)
        os.environ["PATH"] = str(tmp_path / "bin")
        if variable == "PATH":
            os.environ["PATH"] += f":{tmp_path}/cuda/bin"
        else:
            os.environ[variable] = str(tmp_path / "cuda")

    return install


def variables(monkeypatch: pytest.MonkeyPatch, here: platform.Platform) -> dict[str, str]:
    """Variables that are set on this platform."""
    monkeypatch.setattr(platform, "installed", lambda: here)
    before = dict(os.environ)
    apply_environment(SETTINGS)
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


@pytest.mark.parametrize("missing", TOOLS)
def test_without_a_compiler_for_gpus_no_kernel_is_compiled_at_first_use(
    monkeypatch: pytest.MonkeyPatch, install: Install, missing: str
) -> None:
    install(*(tool for tool in TOOLS if tool != missing))
    found = variables(monkeypatch, CUDA)
    assert {name: found.get(name) for name in COMPILED} == dict.fromkeys(COMPILED, "0")
    assert vllm.envs.environment_variables.keys() >= COMPILED
    assert vllm.envs.VLLM_USE_FLASHINFER_SAMPLER is False
    assert vllm.envs.VLLM_USE_DEEP_GEMM is False
    assert vllm.envs.VLLM_MOE_USE_DEEP_GEMM is False


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH", "PATH"])
def test_with_a_compiler_the_choice_is_vllms(
    monkeypatch: pytest.MonkeyPatch, install: Install, variable: str
) -> None:
    install(*TOOLS, variable=variable)
    assert compiles_kernels()
    assert not COMPILED & variables(monkeypatch, CUDA).keys()
    assert _flashinfer_nvcc_path() is not None


@pytest.mark.parametrize(("release", "compiles"), [("12.9", False), ("13.0", True), ("?", False)])
def test_a_compiler_that_is_too_old_is_none(install: Install, release: str, compiles: bool) -> None:
    install(*TOOLS, release=release)
    assert compiles_kernels() is compiles
    assert pins("cuda")["nvidia-cuda-nvcc"].split(".")[0] == str(LEAST_NVCC)


def test_what_is_no_compiler_is_none(install: Install, tmp_path: Path) -> None:
    install(*TOOLS)
    (tmp_path / TOOLS[0]).write_bytes(b"")
    assert not compiles_kernels()


def test_a_compiler_is_sought_where_flashinfer_seeks_it(install: Install) -> None:
    install("bin/g++", "bin/ninja")
    assert not compiles_kernels()
    assert _flashinfer_nvcc_path() is None


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts empty packages where Python finds them."""
    folder = tmp_path / "packages"
    monkeypatch.syspath_prepend(folder)

    def make(*names: str) -> None:
        for name in names:
            (folder / name).mkdir(parents=True)
            (folder / name / "__init__.py").touch()
        importlib.invalidate_caches()

    return make


@pytest.mark.parametrize(
    ("tools", "installed", "there"),
    [
        ((), ["flashinfer"], False),
        (TOOLS, ["flashinfer"], True),
        ((), ["flashinfer", "flashinfer_cubin"], True),
    ],
)
def test_flashinfer_is_not_there_where_its_kernels_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
    install: Install,
    packages: Callable[..., None],
    tools: tuple[str, ...],
    installed: list[str],
    there: bool,
) -> None:
    install(*tools)
    packages(*installed)
    variables(monkeypatch, CUDA)
    assert (importlib.util.find_spec("flashinfer") is not None) is there
    if there:
        importlib.import_module("flashinfer")
    else:
        with pytest.raises(ImportError):
            importlib.import_module("flashinfer")


def test_a_backend_of_attention_that_cannot_be_imported_is_not_chosen() -> None:
    # The module itself loads on GPUs only.
    found = importlib.util.find_spec("vllm.platforms.cuda")
    assert found is not None
    assert found.origin is not None
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    (choice,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "get_valid_backends"
    ]
    handlers = [node for node in ast.walk(choice) if isinstance(node, ast.ExceptHandler)]
    caught = [ast.unparse(node.type) for node in handlers if node.type is not None]
    assert caught == ["(ImportError, OSError)"]


def test_a_choice_that_was_made_stays(monkeypatch: pytest.MonkeyPatch, install: Install) -> None:
    install("bin/g++")
    os.environ["VLLM_USE_DEEP_GEMM"] = "1"
    assert "VLLM_USE_DEEP_GEMM" not in variables(monkeypatch, CUDA)


@pytest.mark.parametrize("here", [CPU, CUDA])
def test_the_engine_is_spawned_everywhere(
    monkeypatch: pytest.MonkeyPatch, here: platform.Platform
) -> None:
    assert variables(monkeypatch, here)["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert vllm.envs.VLLM_WORKER_MULTIPROC_METHOD == "spawn"


def test_what_is_only_for_cpus_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    only = {
        "VLLM_CPU_OMP_THREADS_BIND",
        "VLLM_CPU_KVCACHE_SPACE",
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TRIM_THRESHOLD_",
        "MALLOC_TOP_PAD_",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
    }
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        assert variables(patch, CPU).keys() >= only
    assert not only & variables(monkeypatch, CUDA).keys()


def test_the_products_that_are_kept_are_the_settings_unless_the_variable_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    assert variables(monkeypatch, CPU)[name] == "1024"
    os.environ[name] = "300"
    assert name not in variables(monkeypatch, CPU)


def test_torchs_threads_wait_awake_for_a_moment_and_then_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = variables(monkeypatch, CPU) | {"OMP_DISPLAY_ENV": "VERBOSE"}
    command = [sys.executable, "-c", "import torch"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "GOMP_SPINCOUNT = '10000'" in told.stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told.stderr


@pytest.mark.parametrize("eager", [True, False])
def test_the_compiler_is_off_where_every_encoder_of_a_service_of_encoders_is_eager(
    monkeypatch: pytest.MonkeyPatch, eager: bool
) -> None:
    monkeypatch.setattr(platform, "installed", lambda: CPU)
    encoders = tuple(
        EncoderSettings(name=name, path=Path("/models/e"), engine={"enforce_eager": each})
        for name, each in (("first", True), ("second", eager))
    )
    apply_environment(Settings(encoders=encoders))
    assert (COMPILER_OFF in os.environ) is eager


def test_a_node_that_only_computes_gets_the_platforms_variables(
    monkeypatch: pytest.MonkeyPatch, install: Install
) -> None:
    install()
    monkeypatch.setenv(STARTED_BY_US, "1")  # the chart gives it to the pods of such a node
    monkeypatch.setattr(platform, "installed", lambda: CUDA)
    monkeypatch.setattr(type(current_platform), "is_cpu", lambda self: False)
    plugin.install()
    assert os.environ["VLLM_MAX_BAD_WORDS_TOTAL_TOKENS"] == "16384"
    assert os.environ["VLLM_USE_DEEP_GEMM"] == "0"
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
