"""Every values file of the chart renders to a configuration that the engine takes."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from tools.helm.chart import CI, Manifest, ci_values, manifests, merged, one

# One process for all files, because importing vLLM takes most of the time.
_CHECK = """
import json, sys
from pathlib import Path
from service.vllm_engine.arguments import parse_engine_arguments
from service.vllm_engine.encoder.arguments import parse_encoder_arguments
from service.settings.load import load_settings

for file in sorted(Path(sys.argv[1]).glob("*.yaml")):
    settings = load_settings(file)
    parsed = [parse_encoder_arguments(encoder) for encoder in settings.encoders]
    if settings.model is not None:
        parsed.append(parse_engine_arguments(settings))
    for each in parsed:
        print(file.stem, each.model, each.tensor_parallel_size, each.nnodes)

from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = make_arg_parser(FlexibleArgumentParser())
worker = parser.parse_args(json.loads(sys.argv[2]))
print("worker", worker.model_tag, worker.tensor_parallel_size, worker.nnodes, worker.headless)

from dataclasses import fields
from vllm.engine.arg_utils import EngineArgs
from service.vllm_engine.number_type import type_for_processor

# Several nodes have GPUs, where the processor of this machine would not decide the type.
leader, node = vars(parse_engine_arguments(load_settings(Path(sys.argv[3])))), vars(worker)
node |= type_for_processor(node)
names = [field.name for field in fields(EngineArgs) if field.name in leader]
print("differ", *(name for name in names if leader[name] != node[name]))
"""
GROUP = merged(
    ci_values("two-nodes"),
    {
        "config": {"adapters": [{"source": "hf://example/intent@1"}]},
        "storage": {"adapters": {"create": True}},
    },
)


def test_the_engine_takes_every_rendered_configuration(tmp_path: Path) -> None:
    for file in CI:
        objects = manifests(yaml.safe_load(file.read_text(encoding="utf-8")))
        text = one(objects, "ConfigMap", "llm-service")["data"]["config.yaml"]
        (tmp_path / f"{file.name.removesuffix('-values.yaml')}.yaml").write_text(text)
    words = [word.replace("$(NODE_RANK)", "1") for word in worker()["args"]]
    # The first word is the vLLM command that takes the other arguments.
    leader = tmp_path / "group" / "config.yaml"
    leader.parent.mkdir()
    leader.write_text(one(manifests(GROUP), "ConfigMap", "llm-service")["data"]["config.yaml"])
    command = [sys.executable, "-c", _CHECK, str(tmp_path), json.dumps(words[1:]), str(leader)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert ["tp4", "/models/llama-3.3-70b-instruct", "4", "1"] in lines
    assert ["two-nodes", "/models/llama-3.1-405b-instruct", "8", "2"] in lines
    assert ["worker", "/models/llama-3.1-405b-instruct", "8", "2", "True"] in lines
    rendered = {file.name.removesuffix("-values.yaml") for file in CI}
    assert {line[0] for line in lines if len(line) == 4} == rendered
    # All other arguments must be equal: the nodes run one model with the same adapters.
    own = {"model", "served_model_name", "node_rank", "master_addr"}
    (differ,) = [set(line[1:]) for line in lines if line[0] == "differ"]
    assert differ <= own


def worker() -> Manifest:
    """The container of a node that only computes."""
    group = one(manifests(GROUP), "LeaderWorkerSet")["spec"]
    container: Manifest = group["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]
    return container
