"""The Dockerfile passes its linters, and installs what the lists of pins say."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import vllm.envs
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.loadtests.test_structure import imported
from tests.test_requirements import PROJECT, pins
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


def test_the_cuda_image_samples_without_a_compiler_for_gpus() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert not hashed("cuda").keys() & {"flashinfer-cubin", "flashinfer-jit-cache"}
    variable = re.search(r"AS cuda\n(?:(?!\nFROM ).)*?\nENV (VLLM_\w+SAMPLER)=0\n", text, re.DOTALL)
    assert variable
    assert variable[1] in vllm.envs.environment_variables


def test_the_builder_gets_no_more_than_the_images_need() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    text = DOCKERFILE.read_text(encoding="utf-8")
    copied = set(re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", text, re.MULTILINE))
    wanted = {name.split("/")[0] for line in copied for name in line.split()} - {"${BAKED}"}
    assert wanted | {"baked"} == {rule[1:] for rule in rules if rule.startswith("!")}
