"""lm-eval with a small task of its own: choices by log-probabilities, and a generated answer; then
the same tasks by `llm-service evaluate`, which runs lm-eval's program."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from tried import MODEL, ROOT, SERVICE, TOKENIZER, URL, tried

LINES = [
    {"question": "The capital of France is", "choices": ["Paris", "Berlin"], "answer": 0},
    {"question": "The capital of Japan is", "choices": ["Madrid", "Tokyo"], "answer": 1},
    {"question": "The opposite of hot is", "choices": ["cold", "green"], "answer": 0},
    {"question": "One, two, three,", "choices": ["window", "four"], "answer": 1},
]
CHOICES = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {lines}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
"""
KINDS = {
    "choices": 'output_type: multiple_choice\ndoc_to_choice: "{{choices}}"\n'
    "metric_list: [{metric: acc}]\n",
    "answers": "output_type: generate_until\n"
    "generation_kwargs: {until: ['.'], max_gen_toks: 8}\nmetric_list: [{metric: exact_match}]\n",
}


def write(folder, kind, lines):
    text = CHOICES.format(name=f"own_{kind}", lines=lines) + KINDS[kind]
    (Path(folder) / f"{kind}.yaml").write_text(text)
    (Path(folder) / "lines.jsonl").write_text("\n".join(map(json.dumps, LINES)))


def evaluated(kind):
    with tempfile.TemporaryDirectory() as folder:
        write(folder, kind, Path(folder) / "lines.jsonl")
        found = simple_evaluate(
            model="local-completions",
            model_args={
                "model": MODEL,
                "base_url": f"{URL}/v1/completions",
                "tokenizer": TOKENIZER,
                "num_concurrent": 2,
                "max_retries": 1,
            },
            tasks=[f"own_{kind}"],
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            bootstrap_iters=0,
        )
    return found["results"][f"own_{kind}"]


@tried("choices by log-probabilities")
def choices():
    accuracy = evaluated("choices")["acc,none"]
    assert accuracy >= 0.75, accuracy


@tried("generated answers")
def answers():
    assert evaluated("answers")["sample_len"] == len(LINES)


@tried("tasks of a suite (llm-service evaluate)")
def suite():
    shared = {"kind": "lm-eval", "include": "tasks", "licence": "Apache-2.0"}
    tasks = [
        {
            "name": "choices",
            "task": "own_choices",
            "tokenizer": TOKENIZER,
            "bars": {"acc": ">= 0.75"},
        },
        {
            "name": "answers",
            "task": "own_answers",
            "api": "chat",
            "bars": {"exact_match": "<= 0.5"},
        },
    ]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tasks").mkdir()
        for kind in KINDS:
            write(Path(folder) / "tasks", kind, "lines.jsonl")
        file = Path(folder) / "suite.yaml"
        tree = {"schema": 1, "name": "own", "model": MODEL, "tasks": [shared | t for t in tasks]}
        file.write_text(json.dumps(tree))
        command = [SERVICE, "-m", "service.cli.main", "evaluate", file, "--url", URL, "--json"]
        here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PATH": here}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found = {task["name"]: task["metrics"] for task in json.loads(done.stdout)["tasks"]}
        assert {each["lines"] for task in found.values() for each in task} == {len(LINES)}
