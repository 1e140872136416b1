"""Every values file of helm/ci, through both Helms and three versions of Kubernetes."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.settings.load import load_settings
from tests.helm.kubernetes import check
from tools.helm.binaries import helm
from tools.helm.chart import APIS, ASKED, CHART, CI, KUBE_VERSIONS, ci_values, one
from tools.helm.golden import KEPT, golden_file, golden_text, template

pytestmark = pytest.mark.timeout(900)  # the first run fetches the binaries

each_file = pytest.mark.parametrize("file", CI, ids=lambda file: file.stem.removesuffix("-values"))
each_helm = pytest.mark.parametrize("major", [3, 4])


def test_there_is_a_file_for_each_situation() -> None:
    names = {file.name.removesuffix("-values.yaml") for file in CI}
    assert names == {
        "air-gapped",
        "cpu-minimal",
        "eight-replicas",
        "encoders",
        "experts",
        "keda-scale-to-zero",
        "multi-tenant",
        "one-gpu",
        "remote-engines",
        "rollouts",
        "tp4",
        "two-nodes",
    }


@each_helm
def test_lint_is_clean_with_the_defaults(major: int) -> None:
    lint = [str(helm(major)), "lint", "--strict", str(CHART)]
    run = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@each_helm
@each_file
def test_lint_is_clean(major: int, file: Path) -> None:
    extra = ["--set", f"assumeApis={{{','.join(APIS)}}}", "--kube-version", "1.37"]
    lint = [str(helm(major)), "lint", "--strict", str(CHART), "--values", str(file), *extra]
    run = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@each_file
def test_both_helms_render_the_same(file: Path) -> None:
    assert golden_text(template(3, file)) == golden_text(template(4, file))


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_rendering_is_the_golden_one(file: Path) -> None:
    expected = golden_file(file).read_text(encoding="utf-8")
    current = golden_text(template(4, file))
    assert current == expected, "read the difference, then run: python -m tools.helm.golden"


@each_file
@pytest.mark.parametrize("version", KUBE_VERSIONS)
def test_every_object_is_valid(file: Path, version: str) -> None:
    if file.name.startswith("air-gapped") and version in ("1.29", "1.33"):
        with pytest.raises(subprocess.CalledProcessError) as refusal:
            template(4, file, version)
        assert "images as volumes from 1.35 on" in refusal.value.stderr
        return
    for manifest in template(4, file, version):
        check(manifest, version)


def test_images_are_volumes_where_the_gate_is_said_to_be_on(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({**ci_values("air-gapped"), "assumeImageVolumes": True}))
    for manifest in template(4, values, "1.33"):
        check(manifest, "1.33")


@each_file
def test_config_is_one_that_the_service_takes(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in yaml.safe_load(file.read_text(encoding="utf-8")).get("secretEnv", []):
        monkeypatch.setenv(entry["name"], "valkey://valkey:6379")
    config = tmp_path / "config.yaml"
    config.write_text(one(template(4, file), "ConfigMap", "llm-service")["data"]["config.yaml"])
    settings = load_settings(config)
    assert (settings.http.host, settings.http.ops_host) == ("0.0.0.0", "0.0.0.0")
    assert settings.tenants.allow_anonymous or settings.tenants.keys


def test_an_old_cluster_gets_what_it_knows(tmp_path: Path) -> None:
    """Kubernetes 1.25 knows neither the eviction policy nor a sleep before SIGTERM."""
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({**ASKED, "replicas": 2, "preStopSeconds": 5}))
    objects = template(4, values, "1.25")
    assert "unhealthyPodEvictionPolicy" not in one(objects, "PodDisruptionBudget")["spec"]
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["lifecycle"]["preStop"] == {"exec": {"command": ["sleep", "5"]}}


def test_the_yaml_is_tidy() -> None:
    """yamllint's own rules, with room for a comment that explains a value on one line."""
    rules = (
        "{extends: default, rules: {document-start: disable, braces: {max-spaces-inside: 0},"
        " line-length: {max: 300}, comments-indentation: disable}}"
    )
    files = [CHART / "values.yaml", CHART / "Chart.yaml", *CI]
    command = [sys.executable, "-m", "yamllint", "--strict", "--config-data", rules]
    run = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
