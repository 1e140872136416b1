"""Workload: the rollout, the selectors, the volumes, several nodes."""

from typing import Any

import pytest
import yaml

from service.http import server as http_server
from service.settings.admission import AdmissionSettings
from service.settings.tree import DrainSettings, Settings
from tools.helm.chart import (
    Manifest,
    Refused,
    ci_values,
    manifests,
    merged,
    notes,
    one,
    pod_templates,
    server,
)

# A Deployment's selector cannot be changed: another one here needs a new major version.
SELECTOR = {
    "app.kubernetes.io/name": "llm-service",
    "app.kubernetes.io/instance": "llm",
    "app.kubernetes.io/component": "server",
}


@pytest.mark.parametrize(
    "values", [{}, {"podLabels": {"team": "a"}}, {"image": {"tag": "2"}}, ci_values("one-gpu")]
)
def test_the_selector_never_changes(values: dict[str, Any]) -> None:
    deployment = one(manifests(values), "Deployment")
    assert deployment["spec"]["selector"]["matchLabels"] == SELECTOR


def test_without_gpus_a_rollout_adds_a_pod_first() -> None:
    assert rollout({}) == {"maxSurge": 1, "maxUnavailable": 0}


def test_with_gpus_a_rollout_takes_a_pod_first_and_says_so() -> None:
    values = ci_values("one-gpu")
    assert rollout(values) == {"maxSurge": 0, "maxUnavailable": 1}
    assert "the new pod waits for the GPU of the old one" in notes(values)


@pytest.mark.parametrize("section", ["models", "adapters", "compiled"])
def test_a_claim_of_one_node_is_free_before_the_next_pod(section: str) -> None:
    one_node = {"create": True, "accessModes": ["ReadWriteOnce"]}
    assert rollout({"storage": {section: one_node}}) == {"maxSurge": 0, "maxUnavailable": 1}
    many = {"create": True, "accessModes": ["ReadWriteMany"]}
    assert rollout({"storage": {section: many}}) == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_port_of_a_node_is_free_before_the_next_pod() -> None:
    assert rollout({"hostNetwork": True}) == {"maxSurge": 0, "maxUnavailable": 1}


LABELS = {"cost-centre": "7"}


def test_labels_of_ones_own_are_on_everything_but_selectors() -> None:
    objects = manifests(merged(ci_values("tp4"), {"commonLabels": LABELS}))
    assert all(o["metadata"]["labels"].items() >= LABELS.items() for o in objects)
    for template in pod_templates(objects):
        if template["metadata"]["labels"]["app.kubernetes.io/component"] in ("server", "prefetch"):
            assert template["metadata"]["labels"].items() >= LABELS.items()
    selector = one(objects, "Deployment")["spec"]["selector"]["matchLabels"]
    assert selector == SELECTOR


def test_containers_of_ones_own_stand_beside_the_service() -> None:
    proxy = {"name": "proxy", "image": "registry.example/proxy"}
    ready = {"name": "ready", "image": "registry.example/ready"}
    values = {"extraContainers": [proxy], "extraInitContainers": [ready], "schedulerName": "own"}
    spec = one(manifests(values), "Deployment")["spec"]["template"]["spec"]
    assert [each["name"] for each in spec["containers"]] == ["server", "proxy"]
    assert [each["name"] for each in spec["initContainers"]] == ["prefetch", "ready"]
    assert spec["schedulerName"] == "own"
    baked = {"model": {"source": "baked", "weightsGiB": 1}, "config": {"model": {"path": "/m"}}}
    spec = one(manifests(merged(values, baked)), "Deployment")["spec"]["template"]["spec"]
    assert spec["initContainers"] == [ready]


def test_what_a_fetch_may_take_can_be_chosen() -> None:
    limits = {"memory": "2Gi", "ephemeral-storage": "1Gi"}
    values = merged(ci_values("tp4"), {"model": {"prefetch": {"resources": {"limits": limits}}}})
    objects = manifests(values)
    for kind, place in (("Job", "containers"), ("Deployment", "initContainers")):
        (container,) = one(objects, kind)["spec"]["template"]["spec"][place]
        assert container["resources"]["limits"] == limits
        assert container["resources"]["requests"]["cpu"] == "500m"


def test_a_rollout_can_be_chosen() -> None:
    chosen = {"rollout": {"maxSurge": "50%", "maxUnavailable": 0}}
    assert rollout(merged(ci_values("one-gpu"), chosen)) == {"maxSurge": "50%", "maxUnavailable": 0}


def test_a_change_of_the_configuration_replaces_the_pods() -> None:
    assert checksums({}) != checksums({"config": {"admission": {"max_queued": 7}}})
    assert checksums({}) != checksums({"config": {"adapters": [{"source": "s3://bucket/a"}]}})
    assert checksums({}) == checksums({"service": {"port": 8080}})


def test_a_change_of_the_keys_replaces_no_pod() -> None:
    # The service reads them again by itself.
    first, second = (
        one(manifests({"tenantKeys": {"files": {"keys.yaml": text}}}), "Deployment")["spec"]
        for text in ("tenants: []", "tenants: [] # others")
    )
    assert first["template"] == second["template"]


def test_the_weights_are_read_only_where_they_are_served() -> None:
    for name in ("cpu-minimal", "one-gpu", "tp4", "two-nodes", "air-gapped"):
        mounts = server(manifests(ci_values(name)))["volumeMounts"]
        assert [m["readOnly"] for m in mounts if m["name"] == "models"] == [True], name


def test_a_baked_model_needs_no_volume() -> None:
    baked = {"source": "baked", "weightsGiB": 0.3}
    objects = manifests({"model": baked, "config": {"model": {"path": "/opt/model"}}})
    assert not any("initContainers" in template["spec"] for template in pod_templates(objects))
    assert "models" not in {mount["name"] for mount in server(objects)["volumeMounts"]}


def test_with_a_job_the_pods_wait_for_it() -> None:
    objects = manifests(ci_values("tp4"))
    job = one(objects, "Job")["spec"]["template"]["spec"]["containers"][0]
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]["initContainers"][0]
    assert (job["args"][0], pod["args"][0]) == ("fetch", "wait")
    assert job["args"][1:] == pod["args"][1:]


def test_the_job_runs_where_the_pods_may() -> None:
    given = {"affinity": {"nodeAffinity": {}}, "image": {"pullSecrets": ["registry"]}}
    objects = manifests(merged(ci_values("tp4"), given))
    job = one(objects, "Job")["spec"]["template"]["spec"]
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    for field in ("nodeSelector", "tolerations", "affinity", "imagePullSecrets"):
        assert job[field] == pod[field]
    assert "topologySpreadConstraints" not in job


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"model": {"path": "/models/next"}}},
        {"model": {"prefetch": {"timeoutSeconds": 60}}},
        {"env": [{"name": "REGION", "value": "eu"}]},
        {"podSecurityContext": {"fsGroup": 5}},
    ],
)
def test_another_pod_that_fetches_is_another_job(change: dict[str, Any]) -> None:
    first, second = (
        one(manifests(values), "Job")
        for values in (ci_values("tp4"), merged(ci_values("tp4"), change))
    )
    assert first["spec"]["template"] != second["spec"]["template"]
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_a_job_whose_pod_stays_keeps_its_name() -> None:
    names = {
        one(manifests(merged(ci_values("tp4"), change)), "Job")["metadata"]["name"]
        for change in ({}, {"replicas": 3}, {"config": {"admission": {"max_queued": 7}}})
    }
    assert len(names) == 1


def test_several_nodes_find_each_other() -> None:
    group = one(manifests(ci_values("two-nodes")), "LeaderWorkerSet")["spec"][
        "leaderWorkerTemplate"
    ]
    assert group["size"] == 2
    worker = group["workerTemplate"]["spec"]["containers"][0]
    assert "--headless" in worker["args"]
    assert "--master-addr=$(LWS_LEADER_ADDRESS)" in worker["args"]
    for argument in ("--nnodes=2", "--tensor-parallel-size=8", "--pipeline-parallel-size=2"):
        assert argument in worker["args"]
    assert "ports" not in worker


def test_the_name_by_which_workers_find_their_leader_is_no_service_of_the_chart() -> None:
    # LeaderWorkerSet makes a headless Service of its set's name, but only where the name is free.
    objects = manifests(ci_values("two-nodes"))
    group = one(objects, "LeaderWorkerSet")
    assert "networkConfig" not in group["spec"]
    services = {o["metadata"]["name"] for o in objects if o["kind"] == "Service"}
    assert group["metadata"]["name"] not in services


@pytest.mark.parametrize("name", ["", "a" * 52])
def test_the_name_of_a_replicas_pods_fits_into_a_label_with_a_hash(name: str) -> None:
    objects = manifests(merged(ci_values("two-nodes"), {"fullnameOverride": name}))
    group = one(objects, "LeaderWorkerSet")["metadata"]["name"]
    assert len(f"{group}-99-{'f' * 10}") <= 63  # controller-revision-hash of the workers
    assert group.endswith("-nodes")


def test_only_leaders_get_requests() -> None:
    objects = manifests(ci_values("two-nodes"))
    group = one(objects, "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    selector = one(objects, "Service", "llm-service")["spec"]["selector"].items()
    assert selector <= group["leaderTemplate"]["metadata"]["labels"].items()
    assert not selector <= group["workerTemplate"]["metadata"]["labels"].items()


def test_offline_lets_no_https_out() -> None:
    policy = one(manifests(ci_values("air-gapped")), "NetworkPolicy")
    ports = [p["port"] for rule in policy["spec"]["egress"] for p in rule.get("ports", [])]
    assert ports == [53, 53]


def ops_rules(values: dict[str, Any]) -> list[Any]:
    """The ingress rules of the admin port."""
    policy = one(manifests(values), "NetworkPolicy")
    rules: list[Any] = policy["spec"]["ingress"]
    return [rule for rule in rules if rule.get("ports", [{}])[0].get("port") == 8001]


def test_the_operations_port_is_for_prometheus_of_one_namespace_only() -> None:
    (rule,) = ops_rules({})
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


def test_other_callers_of_the_operations_port_do_not_lock_prometheus_out() -> None:
    picker = {"podSelector": {"matchLabels": {"app": "picker"}}}
    (rule,) = ops_rules({"networkPolicy": {"opsFrom": [picker]}})
    assert rule["from"] == [*ops_rules({})[0]["from"], picker]


def test_without_callers_nobody_reaches_the_operations_port() -> None:
    assert ops_rules({"networkPolicy": {"prometheus": []}}) == []


def test_objects_of_ones_own_are_templates() -> None:
    extra = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-mine'}"
    assert one(manifests({"extraObjects": [extra]}), "ConfigMap", "llm-mine")


def rollout(values: dict[str, Any]) -> Manifest:
    """The rolling update of the Deployment."""
    update: Manifest = one(manifests(values), "Deployment")["spec"]["strategy"]["rollingUpdate"]
    return update


def checksums(values: dict[str, Any]) -> Manifest:
    """The annotations whose change replaces the pods."""
    template = one(manifests(values), "Deployment")["spec"]["template"]
    found: Manifest = template["metadata"]["annotations"]
    return found


SLOW_CLIENTS = http_server._LAST_CONNECTIONS_SECONDS


@pytest.mark.parametrize("name", ["cpu-minimal", "encoders"])
@pytest.mark.parametrize("longest_s", [AdmissionSettings().max_timeout_ms // 1000, 40])
def test_a_drain_takes_as_long_as_the_longest_deadline(name: str, longest_s: int) -> None:
    deadline = {"config": {"admission": {"max_timeout_ms": 1000 * longest_s}}}
    values = merged(ci_values(name), deadline)
    objects = manifests(values)
    config = yaml.safe_load(one(objects, "ConfigMap")["data"]["config.yaml"])
    assert config["drain"]["budget_s"] == longest_s
    drain = int(DrainSettings().lame_duck_s + longest_s + SLOW_CLIENTS + 6)
    (template,) = pod_templates([one(objects, "Deployment")])
    assert template["spec"]["terminationGracePeriodSeconds"] == drain + 5
    assert manifests(merged(values, {"terminationGracePeriodSeconds": drain + 1}))
    with pytest.raises(Refused, match=rf"drain \({drain}\)"):
        manifests(merged(values, {"terminationGracePeriodSeconds": drain}))


@pytest.mark.parametrize(("inputs", "size"), [(None, 4 << 20), (100, 1 << 20)])
def test_with_encoders_a_body_has_room_for_all_inputs(inputs: int | None, size: int) -> None:
    limits = {"config": {"limits": {"embedding_inputs": inputs}}} if inputs else {}
    objects = manifests(merged(ci_values("encoders"), limits))
    config = yaml.safe_load(one(objects, "ConfigMap")["data"]["config.yaml"])
    assert config["http"]["max_body_bytes"] == size
    plain = yaml.safe_load(one(manifests({}), "ConfigMap")["data"]["config.yaml"])
    assert "max_body_bytes" not in plain["http"]


def test_the_budget_of_a_replica_over_several_nodes_counts_every_pod_of_its_group() -> None:
    objects = manifests(merged(ci_values("two-nodes"), {"replicas": 2}))
    budget = one(objects, "PodDisruptionBudget")["spec"]["selector"]
    (expression,) = budget["matchExpressions"]
    roles = {pod["metadata"]["labels"][expression["key"]] for pod in pod_templates(objects)}
    assert {"server", "worker"} <= roles
    assert (expression["operator"], expression["values"]) == ("In", ["server", "worker"])
    assert budget["matchLabels"].items() <= SELECTOR.items()


def test_a_group_can_be_kept_within_one_topology() -> None:
    annotation = {"leaderworkerset.sigs.k8s.io/exclusive-topology": "rack"}
    objects = manifests(merged(ci_values("two-nodes"), {"multiNode": {"annotations": annotation}}))
    assert one(objects, "LeaderWorkerSet")["metadata"]["annotations"] == annotation


def test_a_load_balancer_can_be_chosen_and_guarded() -> None:
    service = {
        "type": "LoadBalancer",
        "loadBalancerClass": "service.k8s.aws/nlb",
        "loadBalancerSourceRanges": ["10.0.0.0/8", "fd00::/8"],
    }
    specs = [o["spec"] for o in manifests({"service": service}) if o["kind"] == "Service"]
    public, ops = sorted(specs, key=lambda spec: "clusterIP" in spec)
    assert service.items() <= public.items()
    assert ops["type"] == "ClusterIP"


def test_the_tests_pods_can_be_kept_from_the_gpus() -> None:
    placement = {"nodeSelector": {"pool": "cpu"}, "tolerations": [{"operator": "Exists"}]}
    chosen = {"smokeTest": placement, "loadTest": {"enabled": True}}
    objects = manifests(merged(ci_values("one-gpu"), chosen))
    for name in ("-smoke-test", "-load-test"):
        assert placement.items() <= one(objects, "Pod", name)["spec"].items()


def test_encoders_alone_have_no_engine_and_their_weights_count() -> None:
    objects = manifests(ci_values("encoders"))
    config = yaml.safe_load(one(objects, "ConfigMap")["data"]["config.yaml"])
    assert config.keys().isdisjoint({"model", "engine"})
    assert [each["name"] for each in config["encoders"]] == ["my-embeddings", "my-reranker"]
    assert server(objects)["resources"]["limits"]["memory"] == "9Gi"
    smoke = one(objects, "Pod", "smoke-test")["spec"]["containers"][0]
    assert smoke["args"][1:] == ["my-embeddings", "encoder"]
    more = merged(ci_values("encoders"), {"model": {"encodersGiB": 4.2}})
    assert server(manifests(more))["resources"]["limits"]["memory"] == "13Gi"
    assert startup_seconds(more) > startup_seconds(ci_values("encoders"))


def test_a_start_may_take_as_long_as_all_proofs_may() -> None:
    base = startup_seconds({})
    adapters = [{"source": f"s3://bucket/{name}"} for name in "abcdef"]
    own = Settings.model_fields["golden_timeout_s"].default
    assert startup_seconds({"config": {"adapters": adapters}}) == base + 6 * own
    patient = {"config": {"adapters": adapters, "golden_timeout_s": 300}}
    assert startup_seconds(patient) == base + 6 * 300
    alone = merged(ci_values("encoders"), {"model": {"encodersGiB": 0.3}})
    assert startup_seconds(alone) == base + 2 * own


def startup_seconds(values: dict[str, Any]) -> int:
    """The longest start that the probe allows."""
    probe = server(manifests(values))["startupProbe"]
    return int(probe["failureThreshold"] * probe["periodSeconds"])
