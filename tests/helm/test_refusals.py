"""Contradictory values are refused with a message that says what to write instead."""

from typing import Any

import pytest
import yaml

from service.tenants.keyring import parse_keys
from tools.helm.chart import Refused, ci_values, manifests, merged, one, rendered

HASH = "sha256:" + "a" * 64
KEYS = f"tenants: [{{name: acme, models: '*', adapters: [], keys: [{{sha256: '{'a' * 64}'}}]}}]\n"
GPU = {"gpu": {"count": 4}}
NEITHER = {"rollout": {"maxSurge": 0, "maxUnavailable": 0}}
CLAIM = {"create": True, "accessModes": ["ReadWriteOnce"]}
ADAPTER = {"config": {"adapters": [{"source": "hf://example/a@1"}]}}
PVC = {"model": {"source": "volume"}, "storage": {"models": {"existingClaim": "weights"}}}

ALONE = ci_values("encoders")


def encoders(*engines: dict[str, Any]) -> dict[str, Any]:
    """Values of encoders with these engines, beside the default model."""
    listed = [
        {"name": f"e{place}", "path": f"/models/e{place}", "engine": engine}
        for place, engine in enumerate(engines)
    ]
    return {"config": {"encoders": listed}, "model": {"encodersGiB": 0.1}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown alert": (
        {"monitoring": {"prometheusRule": {"alerts": {"InferenceSlow": {"for": "5m"}}}}},
        "alerts.InferenceSlow: there is no such alert; they are InferenceAbstentionDrift, ",
    ),
    "a threshold of an alert that has none": (
        {"monitoring": {"prometheusRule": {"alerts": {"InferenceDown": {"threshold": 1}}}}},
        "alerts.InferenceDown.threshold is 1, and this alert has none: set its severity or for",
    ),
    "HPA and KEDA": (
        {
            "autoscaling": {"enabled": True},
            "keda": {"enabled": True, "prometheusAddress": "http://p"},
        },
        "autoscaling.enabled and keda.enabled are both true.*set one of them to false",
    ),
    "engines elsewhere without an address": (
        {"config": {"engine": {"client": "remote"}}},
        "config.remote.url is empty: set it to the address",
    ),
    "engines elsewhere and GPUs": (
        {"config": {"engine": {"client": "remote"}, "remote": {"url": "http://r"}}, **GPU},
        "gpu.count is 4 and multiNode.nodes 1: a pod has no engine, so set gpu.count to 0",
    ),
    "least above most": (
        {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}},
        "autoscaling.minReplicas is 5 and autoscaling.maxReplicas 2: set the least",
    ),
    "a misspelt field of a Gateway's reference": (
        {"httpRoute": {"parentRefs": [{"name": "gateway", "sectionname": "https"}]}},
        "at '/httpRoute/parentRefs/0': additional properties 'sectionname' not allowed",
    ),
    "a host that the Gateway API refuses": (
        {"httpRoute": {"hostnames": ["LLM.example.com"]}},
        "at '/httpRoute/hostnames/0': 'LLM.example.com' does not match pattern",
    ),
    "KEDA without Prometheus": (
        {"keda": {"enabled": True}},
        "keda.prometheusAddress is empty: set it",
    ),
    "zero without a waker": (
        {"keda": {"enabled": True, "prometheusAddress": "http://p", "minReplicas": 0}},
        "keda.minReplicas is 0 and keda.wake.query is empty.*or keda.minReplicas to 1",
    ),
    "RWO with replicas": (
        {"replicas": 2, "storage": {"models": CLAIM}},
        r"storage.models.accessModes is \[\"ReadWriteOnce\"\] and up to 2 pods run.*ReadWriteMany",
    ),
    "a picker for a pool that has one": (
        {"inferencePool": {"enabled": True, "existingName": "a", "endpointPicker": {"name": "b"}}},
        "inferencePool.existingName is a.*leave inferencePool.endpointPicker.name empty",
    ),
    "rollouts without a place": (
        merged(ci_values("rollouts"), {"config": {"releases": {"path": None}}}),
        "config.releases.plans needs a place for what is decided: set config.releases.storage",
    ),
    "rollouts in two places": (
        merged(ci_values("rollouts"), {"config": {"releases": {"storage": "redis://valkey"}}}),
        "config.releases.path is .*/releases and config.releases.storage is set too",
    ),
    "rollouts beside the configuration": (
        {"config": {"releases": {"path": "releases"}}},
        "config.releases.path is releases: in a pod write an absolute path",
    ),
    "rollouts of several nodes": (
        merged(ci_values("two-nodes"), {"config": {"releases": {"path": "/var/releases"}}}),
        "config.releases.path is /var/releases and multiNode.nodes 2: .* no disk that survives",
    ),
    "rollouts of replicas in one volume": (
        {
            "replicas": 2,
            "config": {"releases": {"path": "/adapters/releases"}},
            "storage": {"adapters": {"existingClaim": "adapters"}},
        },
        "config.releases.path is /adapters/releases, in a volume that up to 2 replicas would share",
    ),
    "RWO with a Job": (
        {"model": {"prefetch": {"job": True}}, "storage": {"models": CLAIM}},
        "up to 2 pods run with the fetching Job.*or replicas: 1 and model.prefetch.job: false",
    ),
    "RWO with an autoscaler": (
        {"autoscaling": {"enabled": True}, "storage": {"adapters": CLAIM}},
        "storage.adapters.accessModes is .* up to 4 pods run",
    ),
    "a load balancer's guard without one": (
        {"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}},
        "service.type is ClusterIP.*: set it to LoadBalancer, or leave",
    ),
    "an Ingress for no host": (
        {"ingress": {"enabled": True}},
        r"ingress.hosts is empty: name the hosts, as \[llm.example.com\]",
    ),
    "labels that selectors need": (
        {"commonLabels": {"app.kubernetes.io/instance": "other"}},
        "commonLabels: app.kubernetes.io/instance is set by the chart: choose another",
    ),
    "a pod's label that selectors need": (
        {"podLabels": {"app.kubernetes.io/component": "worker"}},
        "podLabels: app.kubernetes.io/component is set by the chart",
    ),
    "RWO for compiled kernels of several": (
        {"replicas": 2, "storage": {"compiled": CLAIM}},
        "storage.compiled.accessModes is .* up to 2 pods run",
    ),
    "nothing to serve": (
        {"config": {"model": None}},
        "config.model is null and config.encoders is empty",
    ),
    "encoders that are fetched": (
        merged(ALONE, {"model": {"source": "package"}}),
        "config.model is null and model.source package: the chart fetches no encoder",
    ),
    "encoders and an engine of no model": (
        merged(ALONE, {"config": {"engine": {"max_num_seqs": 8}}}),
        "config.engine belongs to a language model",
    ),
    "encoders on several GPUs": (
        merged(ALONE, {"gpu": {"count": 2}}),
        "gpu.count is 2 and .* each encoder runs on one GPU",
    ),
    "encoders elsewhere": (
        merged(ALONE, {"config": {"encoders": [{"name": "e", "path": "/srv/e"}]}}),
        "config.encoders: e has the path /srv/e: .* write /models/NAME",
    ),
    "encoders of no size": (
        merged(ALONE, {"model": {"encodersGiB": 0}}),
        "config.encoders names 2 and model.encodersGiB is 0: set it",
    ),
    "shares above one": (
        encoders({"gpu_memory_utilization": 0.4}, {"gpu_memory_utilization": 0.4}),
        "must be at most 1 together and are smollm2-135m-instruct 0.3, e0 0.4, e1 0.4",
    ),
    "a share that is not stated": (encoders({}), "smollm2-135m-instruct 0.3, e0 0.92"),
    "shares above one on a GPU": (
        merged(
            ci_values("one-gpu"),
            encoders({"gpu_memory_utilization": 0.2}),
            {"config": {"engine": {"gpu_memory_utilization": 0.9}}},
        ),
        "must be at most 1 together",
    ),
    "weights above the memory": (
        merged(
            encoders({"gpu_memory_utilization": 0.2}),
            {
                "model": {"encodersGiB": 5},
                "resources": {"limits": {"memory": "6Gi"}},
            },
        ),
        r"resources.limits.memory is 6Gi, and the weights .* have 5.3 GiB and the cache 1",
    ),
    "weights above the volume": (
        {"model": {"weightsGiB": 15}, "storage": {"models": {"size": "4Gi"}}},
        "storage.models.size is 4Gi and the weights .* have 15 GiB",
    ),
    "weights above the pod's own disk": (
        {
            "model": {"weightsGiB": 15},
            "resources": {"limits": {"ephemeral-storage": "8Gi"}},
        },
        "ephemeral-storage is 8Gi .* 15 GiB .*: set it to more, or name a claim",
    ),
    "a password in a variable's address": (
        {"env": [{"name": "LLM_SERVICE_QUOTAS__STORAGE", "value": "redis://:pw@valkey:6379"}]},
        "env: LLM_SERVICE_QUOTAS__STORAGE holds an address with a password",
    ),
    "TP without GPUs": (
        {"config": {"engine": {"tensor_parallel_size": 4}}},
        r"tensor_parallel_size \(4\) .* is 4, but gpu.count \(0\) .* set gpu.count to 4",
    ),
    "GPUs without TP": (GPU, r"tensor_parallel_size \(1\) .* is 1, but gpu.count \(4\)"),
    "TP unlike GPUs": (
        merged(GPU, {"config": {"engine": {"tensor_parallel_size": 2}}}),
        r"tensor_parallel_size \(2\) .* but gpu.count \(4\).* set gpu.count to 2",
    ),
    "nodes without GPUs": (
        {"multiNode": {"nodes": 2}, "config": {"engine": {"pipeline_parallel_size": 2}}},
        "multiNode.nodes is 2 and gpu.count 0.*multiNode.nodes: 1",
    ),
    "adapters on one of the nodes": (
        merged(ci_values("two-nodes"), ADAPTER),
        "multiNode.nodes is 2 and config.adapters .* set storage.adapters.create .*ReadWriteMany",
    ),
    "node rank of one's own": (
        {"config": {"engine": {"node_rank": 1}}},
        "config.engine.node_rank is set by the chart: set multiNode.nodes",
    ),
    "grace too short": (
        {"preStopSeconds": 5, "terminationGracePeriodSeconds": 621},
        r"terminationGracePeriodSeconds is 621, but preStopSeconds \(5\) .* drain \(616\) take "
        "621: set it to at least 626",
    ),
    "no pod could be replaced": (NEITHER, "rollout.maxSurge and .* both 0.*set one of them to 1"),
    "no share could be replaced": (
        {"rollout": {"maxSurge": "0%", "maxUnavailable": "00%"}},
        "rollout.maxSurge and rollout.maxUnavailable are both 0",
    ),
    "no scaled pod could be replaced": (
        merged(NEITHER, {"autoscaling": {"enabled": True}}),
        "rollout.maxSurge and rollout.maxUnavailable are both 0",
    ),
    "no group could be replaced": (
        merged(ci_values("two-nodes"), NEITHER),
        "rollout.maxSurge and rollout.maxUnavailable are both 0",
    ),
    "hub without revision": (
        {"model": {"source": "hub", "hub": {"repository": "a/b"}}},
        "model.source is hub: set model.hub.repository .* model.hub.revision",
    ),
    "store without address": (
        {"model": {"source": "objectStore"}},
        "model.source is objectStore: set model.objectStore.uri",
    ),
    "volume without claim": (
        {"model": {"source": "volume"}},
        "model.source is volume: set storage.models.existingClaim",
    ),
    "image without reference": (
        {"model": {"source": "image"}},
        "model.source is image: set model.image.reference",
    ),
    "path elsewhere": (
        {"config": {"model": {"path": "/srv/model"}}},
        "config.model.path is /srv/model: .* write /models/NAME",
    ),
    "job without a shared volume": (
        {"model": {"prefetch": {"job": True}}},
        "model.prefetch.job is true, but the pods share no volume",
    ),
    "offline and fetching": (
        {"config": {"adapter_cache": {"offline": True}}},
        "offline is true and model.source is package, which needs a network: use volume",
    ),
    "route without a gateway": (
        {"httpRoute": {"enabled": True}},
        "httpRoute.parentRefs is empty: name the Gateway",
    ),
    "pool without a picker": (
        {"inferencePool": {"enabled": True}},
        "inferencePool.endpointPicker.name is empty: name the Service",
    ),
    "password in the environment": (
        {"env": [{"name": "HF_TOKEN", "value": "abc"}]},
        "env: HF_TOKEN is in plain text: put it in a Secret and list it under secretEnv",
    ),
    "address with a password": (
        {"config": {"adapters": [{"source": "https://me:pass@host/a"}]}},
        r"config.adapters\[0\].source holds an address with a password: put .* secretEnv",
    ),
    "key in plain text": (
        {"tenantKeys": {"files": {"keys.yaml": "acme:\n  key: letmein\n"}}},
        "tenantKeys.files.keys.yaml.acme.key is in plain text: write its hash",
    ),
    "key in a list": (
        {"tenantKeys": {"files": {"keys.yaml": "- name: acme\n  api_key: letmein\n"}}},
        r"keys.yaml.records\[0\].api_key is in plain text",
    ),
    "key in a list of hashes": (
        {"tenantKeys": {"files": {"a.yaml": "tenants: [{name: a, keys: [sk-aaaabbbbccccdddd]}]"}}},
        r"tenantKeys.files.a.yaml.tenants\[0\].keys\[0\] is in plain text: write its hash",
    ),
    "nobody may come": (
        {"config": {"tenants": {"allow_anonymous": False}}},
        "allow_anonymous is false and there are no keys.* set tenantKeys.existingSecret",
    ),
    "two sources of keys": (
        {"tenantKeys": {"existingSecret": "keys", "files": {"a": f"key: {HASH}"}}},
        "tenantKeys.existingSecret and tenantKeys.files are both set: use one",
    ),
    "a model that nobody chose": (
        {"model": {"source": ""}},
        "model.source is empty: say where the weights come from, hub, .*package fetches a demo",
    ),
    "unknown value": ({"replicaCount": 3}, "replicaCount.* not allowed"),
    "unknown setting": ({"config": {"http": {"prot": 80}}}, "config/http.*prot.* not allowed"),
    "wrong type": ({"replicas": "two"}, "replicas.*want integer"),
    "negative setting": (
        {"config": {"admission": {"max_queued": -1}}},
        "config/admission/max_queued",
    ),
    "bad address": (
        {"config": {"tracing": {"endpoint": "collector:4317"}}},
        "config/tracing/endpoint",
    ),
}


@pytest.mark.parametrize(("values", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused, match=rf"(?s){sentence}"):
        rendered(values)


@pytest.mark.parametrize(
    ("values", "api"),
    [
        (ci_values("two-nodes"), "leaderworkerset.x-k8s.io/v1"),
        (ci_values("keda-scale-to-zero"), "keda.sh/v1alpha1"),
        (ci_values("one-gpu"), "monitoring.coreos.com/v1"),
        (ci_values("tp4"), "inference.networking.k8s.io/v1"),
    ],
)
def test_an_api_that_the_cluster_lacks_is_named(values: dict[str, Any], api: str) -> None:
    with pytest.raises(Refused, match=f"the cluster has no {api}: .*or leave it off"):
        rendered(merged(values, {"assumeApis": []}))


def test_hashed_keys_become_a_secret() -> None:
    objects = manifests({"tenantKeys": {"files": {"keys.yaml": KEYS}}})
    assert one(objects, "Secret", "tenant-keys")["stringData"] == {"keys.yaml": KEYS}
    config = yaml.safe_load(one(objects, "ConfigMap")["data"]["config.yaml"])
    assert config["tenants"] == {"keys": "/etc/llm-service/tenants"}
    parse_keys("keys.yaml", KEYS.encode())


def test_one_more_second_of_grace_is_enough() -> None:
    assert manifests({"terminationGracePeriodSeconds": 617})
