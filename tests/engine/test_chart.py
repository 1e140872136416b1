"""Every values file of the chart renders to a configuration that the engine takes."""

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.cli.serve import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from service.settings.load import load_settings
from service.settings.tree import Settings
from service.vllm.arguments import parse_engine_arguments, type_for_processor
from service.vllm.encoder import parse_encoder_arguments
from tools.helm.chart import CI, Manifest, ci_values, manifests, merged, one

GROUP = merged(
    ci_values("two-nodes"),
    {
        "config": {"adapters": [{"source": "hf://example/intent@1"}]},
        "storage": {"adapters": {"create": True}},
    },
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        yield


def test_the_engine_takes_every_rendered_configuration(tmp_path: Path) -> None:
    taken: dict[str, list[tuple[str, int, int]]] = {}
    for file in CI:
        name = file.name.removesuffix("-values.yaml")
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        settings = rendered(values, tmp_path / f"{name}.yaml")
        parsed = [parse_encoder_arguments(encoder) for encoder in settings.encoders]
        if settings.model is not None:
            parsed.append(parse_engine_arguments(settings))
        taken[name] = [(each.model, each.tensor_parallel_size, each.nnodes) for each in parsed]
    assert all(taken.values())
    assert taken["tp4"] == [("/models/llama-3.3-70b-instruct", 4, 1)]
    assert taken["two-nodes"] == [("/models/llama-3.1-405b-instruct", 8, 2)]


def test_the_nodes_of_a_group_run_one_model_with_the_same_arguments(tmp_path: Path) -> None:
    # The first word is the vLLM command that takes the other arguments.
    words = [word.replace("$(NODE_RANK)", "1") for word in worker()["args"]][1:]
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
    assert parsed.model_tag == "/models/llama-3.1-405b-instruct"
    assert (parsed.tensor_parallel_size, parsed.nnodes, parsed.headless) == (8, 2, True)
    leader = vars(parse_engine_arguments(rendered(GROUP, tmp_path / "config.yaml")))
    # Several nodes have GPUs, where the processor of this machine would not decide the type.
    node = vars(parsed) | type_for_processor(vars(parsed))
    names = [each.name for each in fields(EngineArgs) if each.name in leader]
    own = {"model", "served_model_name", "node_rank", "master_addr"}
    own |= {"scheduler_cls", "additional_config"}  # the leader alone schedules
    own.add("profiler_config")  # vLLM changes its default in place where a test runs on CPUs
    assert {name for name in names if leader[name] != node[name]} <= own


def rendered(values: Manifest, file: Path) -> Settings:
    """Settings of the configuration that the chart renders, by way of the file."""
    file.write_text(one(manifests(values), "ConfigMap", "llm-service")["data"]["config.yaml"])
    return load_settings(file)


def worker() -> Manifest:
    """The container of a node that only computes."""
    group = one(manifests(GROUP), "LeaderWorkerSet")["spec"]
    container: Manifest = group["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]
    return container
