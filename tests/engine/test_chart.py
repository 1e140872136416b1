"""Every values file of the chart renders to a configuration that the engine takes."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from tests.helm.chart import CI, Manifest, ci_values, manifests, one

# One process for all of them: importing vLLM is what takes time.
_CHECK = """
import json, sys
from pathlib import Path
from service.engine.arguments import parse_engine_arguments
from service.settings import load_settings

for file in sorted(Path(sys.argv[1]).glob("*.yaml")):
    parsed = parse_engine_arguments(load_settings(file))
    print(file.stem, parsed.model, parsed.tensor_parallel_size, parsed.nnodes)

from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = make_arg_parser(FlexibleArgumentParser())
worker = parser.parse_args(json.loads(sys.argv[2]))
print("worker", worker.model_tag, worker.tensor_parallel_size, worker.nnodes, worker.headless)
"""


def test_the_engine_takes_every_rendered_configuration(tmp_path: Path) -> None:
    for file in CI:
        objects = manifests(yaml.safe_load(file.read_text(encoding="utf-8")))
        text = one(objects, "ConfigMap", "llm-service")["data"]["config.yaml"]
        (tmp_path / f"{file.name.removesuffix('-values.yaml')}.yaml").write_text(text)
    words = [word.replace("$(NODE_RANK)", "1") for word in worker()["args"]]
    # The first word is the command of vLLM's that takes the others.
    command = [sys.executable, "-c", _CHECK, str(tmp_path), json.dumps(words[1:])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert ["tp4", "/models/llama-3.3-70b-instruct", "4", "1"] in lines
    assert ["two-nodes", "/models/llama-3.1-405b-instruct", "8", "2"] in lines
    assert ["worker", "/models/llama-3.1-405b-instruct", "8", "2", "True"] in lines
    assert len([line for line in lines if len(line) == 4]) == len(CI)


def worker() -> Manifest:
    """The container of a node that only computes."""
    group = one(manifests(ci_values("two-nodes")), "LeaderWorkerSet")["spec"]
    container: Manifest = group["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]
    return container
