"""The list of adapters in a ConfigMap of its own, whose changes replace no pod."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings.load import parse_adapter_list
from tests.helm.kubernetes import check
from tools.helm.chart import KUBE_VERSIONS, Refused, ci_values, manifests, merged, one, server

MOUNT = "/etc/llm-service-adapters"


def listed(*names: str, **others: Any) -> dict[str, Any]:
    adapters = [{"name": name, "source": f"s3://adapters/{name}"} for name in names]
    return {"adapterList": {"enabled": True, "adapters": adapters, **others}}


@pytest.mark.parametrize("version", KUBE_VERSIONS)
def test_the_list_is_mounted_as_a_folder_that_follows_changes(version: str) -> None:
    objects = manifests(listed("one", "two"))
    config_map = one(objects, "ConfigMap", "llm-llm-service-adapters")
    check(config_map, version)
    check(one(objects, "Deployment"), version)
    texts = {name: text.encode() for name, text in config_map["data"].items()}
    found = parse_adapter_list(Path(MOUNT), texts)
    assert [each.name for each in found.adapters] == ["one", "two"]
    (mount,) = [each for each in server(objects)["volumeMounts"] if each["mountPath"] == MOUNT]
    assert "subPath" not in mount  # the kubelet would never update it
    config = yaml.safe_load(one(objects, "ConfigMap", "llm-llm-service")["data"]["config.yaml"])
    assert config["adapters_path"] == MOUNT


def test_a_change_of_the_list_changes_no_other_object() -> None:
    def others(*names: str) -> list[Any]:
        objects = manifests(listed(*names))
        return [each for each in objects if each["metadata"]["name"] != "llm-llm-service-adapters"]

    assert others("one") == others("one", "two", "three")


def test_a_list_of_ones_own_is_mounted() -> None:
    objects = manifests(listed(existingConfigMap="mine"))
    volumes = one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "adapter-list", "configMap": {"name": "mine"}} in volumes
    names = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
    assert names == {"llm-llm-service"}


def test_nodes_that_only_compute_have_room_for_what_is_added() -> None:
    values = merged(
        ci_values("two-nodes"), listed("one"), {"storage": {"adapters": {"create": True}}}
    )
    workers = one(manifests(values), "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    (worker,) = workers["workerTemplate"]["spec"]["containers"]
    assert {"--enable-lora", "--max-loras=8", "--max-cpu-loras=64"} <= set(worker["args"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (listed(config_adapters=1), "config_adapters"),
        (
            merged(listed("one"), {"config": {"adapters": [{"source": "s3://bucket/a"}]}}),
            "move all adapters to adapterList.adapters",
        ),
        (listed("one", existingConfigMap="mine"), "are both set"),
        (merged(listed("one"), {"adapterList": {"enabled": False}}), "set it to true"),
        (listed("one", adapters=[{"source": "s3://bucket/a"}]), "name"),
    ],
)
def test_what_contradicts_itself_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        manifests(values)
