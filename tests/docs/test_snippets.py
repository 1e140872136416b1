"""Files that the pages show are valid, and their commands and options exist."""

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import typer
import yaml

from evaluation.suite import load_suite
from loadtests.cli import app as loadtests
from loadtests.load.scenario import load_scenario
from service.adapters.golden import check_golden
from service.adapters.manifest_yaml import build_manifest
from service.settings.load import load_settings, parse_adapter_list, read_adapter_list
from service.tenants.keyring import parse_keys
from tests.docs.pages import DOCS, ROOT, Block, blocks
from tests.helm.kubernetes import check
from tools.helm.chart import manifests, one
from training.config import load_finetune_settings

PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((DOCS / "howto").glob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks(page)]
FILES = [block for block in BLOCKS if block.title]
DIGEST = f"sha256:{'0' * 64}"
LABELLED = {"text", "label"}


def is_draft(block: Block, folder: Path) -> None:
    """A draft is a valid manifest together with the page's golden examples for its task."""
    ending = block.title.removeprefix("draft").removesuffix(".yaml")
    golden = next(
        each.text
        for each in FILES
        if (each.page, each.title) == (block.page, f"golden{ending}.jsonl")
    )
    (folder / "golden.jsonl").write_text(golden, encoding="utf-8")
    names = ("adapter_config.json", "adapter_model.safetensors", "golden.jsonl")
    filled = {
        "schema": 1,
        "base_model": {"name": "my-model", "digest": DIGEST},
        "files": dict.fromkeys(names, DIGEST),
    }
    check_golden(folder, build_manifest({**yaml.safe_load(block.text), **filled}, source="page"))


def is_configuration(block: Block, folder: Path) -> None:
    """The service's settings read it."""
    load_settings(written(block, folder))


def is_run(block: Block, folder: Path) -> None:
    """The configuration of a fine-tuning run."""
    load_finetune_settings(written(block, folder))


def is_suite(block: Block, folder: Path) -> None:
    """A suite of evaluation tasks."""
    load_suite(written(block, folder))


def is_scenario(block: Block, folder: Path) -> None:
    """A scenario of the load tests."""
    load_scenario(str(written(block, folder)))


def is_adapter_list(block: Block, folder: Path) -> None:
    """The list of `adapters_path`."""
    path = written(block, folder)
    assert parse_adapter_list(path, read_adapter_list(path)).adapters


def is_keys(block: Block, _: Path) -> None:
    """A keys file with a tenant."""
    assert parse_keys(block.title, block.text.encode())


def is_values(block: Block, _: Path) -> None:
    """The chart renders it, and the objects fit the schemas of Kubernetes."""
    for manifest in manifests(yaml.safe_load(block.text)):
        check(manifest, "1.37")


def is_objects(block: Block, _: Path) -> None:
    """Objects of Kubernetes, or of projects whose schemas are in tests/helm/crds."""
    for manifest in yaml.safe_load_all(block.text):
        check(manifest, "1.37")


def is_metrics_adapter(block: Block, _: Path) -> None:
    """Rules of prometheus-adapter: they serve what the chart's HorizontalPodAutoscaler asks for."""
    rules = yaml.safe_load(block.text)["rules"]["custom"]
    scaler = one(manifests({"autoscaling": {"enabled": True}}), "HorizontalPodAutoscaler")
    asked = {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]}
    named = {rule.get("name", {}).get("as") or _series(rule["seriesQuery"]) for rule in rules}
    assert named == asked
    for rule in rules:
        promql_parser.parse(rule["seriesQuery"])
        promql_parser.parse(_filled(rule))
        assert {"namespace", "pod"} == rule["resources"]["overrides"].keys()


def _series(query: str) -> str:
    return query.partition("{")[0]


def _filled(rule: Mapping[str, str]) -> str:
    """The query that prometheus-adapter sends for two pods."""
    parts = {
        "Series": _series(rule["seriesQuery"]),
        "LabelMatchers": 'namespace="n",pod=~"a|b"',
        "GroupBy": "pod",
    }
    return re.sub(r"<<\.(\w+)>>", lambda found: parts[found[1]], rule["metricsQuery"])


def is_picker(block: Block, _: Path) -> None:
    """llm-d's endpoint picker: every series of the service that it names is in the catalogue."""
    plugins = yaml.safe_load(block.text)["plugins"]
    (engine,) = plugins[-1]["parameters"]["engineConfigs"]
    series = {_series(value) for key, value in engine.items() if key != "name"}
    ours = {name for name in series if not name.startswith("vllm:")}
    assert ours == {"inference_requests_waiting", "inference_requests_in_flight"}
    catalogue = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in catalogue for name in ours)


def is_prometheus(block: Block, _: Path) -> None:
    """Prometheus's configuration: the rules that it names are in the checkout."""
    assert all((ROOT / file).is_file() for file in yaml.safe_load(block.text)["rule_files"])


def is_lines(block: Block, _: Path) -> None:
    """Lines of labelled data."""
    assert all(json.loads(line).keys() == LABELLED for line in block.text.splitlines())


def is_read_elsewhere(block: Block, _: Path) -> None:
    """A file that another test reads, or that belongs to another program."""
    assert block.text.strip()


CHECKS: Mapping[str, Callable[[Block, Path], None]] = {
    r"config\.yaml": is_configuration,
    r"adapters\.yaml": is_adapter_list,
    r"draft.*\.yaml": is_draft,
    r".*values\.yaml": is_values,
    r"run\.yaml": is_run,
    r"suite\.yaml": is_suite,
    r"keys\.yaml": is_keys,
    r"scenario\.yaml": is_scenario,
    r"prometheus-adapter\.yaml": is_metrics_adapter,
    r"(gke|gateway|ingress)\.yaml": is_objects,
    r"prometheus\.yml": is_prometheus,
    r"lines\.jsonl": is_lines,
    r"epp-config\.yaml": is_picker,
    r"envoy\.yaml|haproxy(-adapters)?\.cfg": is_read_elsewhere,
    r"golden.*\.jsonl|litellm\.yaml|nginx\.conf|audit\.py|pyproject\.toml": is_read_elsewhere,
}


def written(block: Block, folder: Path) -> Path:
    """The block as a file."""
    file = folder / block.title
    file.write_text(block.text, encoding="utf-8")
    return file


@pytest.mark.parametrize("block", FILES, ids=str)
def test_a_file_is_valid(block: Block, tmp_path: Path) -> None:
    (checked,) = [each for name, each in CHECKS.items() if re.fullmatch(name, block.title)]
    checked(block, tmp_path)


def commands() -> list[str]:
    """Every command of the pages, continued lines joined, comments and redirections left out."""
    lines = [
        line.strip().removeprefix("$ ")
        for block in BLOCKS
        if block.language in {"sh", "console"}
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    inline = [
        found
        for page in PAGES
        for found in re.findall(r"`((?:llm-service|make|python -m loadtests) [^`|]+)`", prose(page))
    ]
    return sorted({line.partition(" #")[0].strip() for line in [*lines, *inline]})


def prose(page: Path) -> str:
    """The text of a page outside its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def service_command() -> Any:
    """The command that pyproject.toml installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["scripts"]["llm-service"].partition(":")
    return typer.main.get_command(getattr(import_module(module), name))


PROGRAMS: Mapping[str, Callable[[], Any]] = {
    "llm-service": service_command,
    ".venv/bin/llm-service": service_command,
    "python -m loadtests": lambda: typer.main.get_command(loadtests),
}
OURS = [
    (program, line) for program in PROGRAMS for line in commands() if line.startswith(f"{program} ")
]


@pytest.mark.parametrize(("program", "line"), OURS, ids=[line for _, line in OURS])
def test_a_command_and_its_options_exist(program: str, line: str) -> None:
    words = shlex.split(line.removeprefix(program))
    command = PROGRAMS[program]()
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        found = command.get_command(typer.Context(command), words[0])
        assert found is not None, words[0]
        command = found
        del words[0]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert given <= known


def test_a_target_of_make_exists() -> None:
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {line.split()[1] for line in commands() if line.startswith("make ")}
    assert targets, "the pages name none"
    for target in targets:
        assert re.search(rf"^({target}|{target.partition('-')[0]}-%):", rules, re.MULTILINE), target
