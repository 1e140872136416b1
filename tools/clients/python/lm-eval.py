"""lm-eval with a small task of its own: choices by log-probabilities, and a generated answer."""

import json
import tempfile
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from tried import MODEL, TOKENIZER, URL, tried

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


def evaluated(kind):
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines.jsonl"
        lines.write_text("\n".join(map(json.dumps, LINES)))
        text = CHOICES.format(name=f"own_{kind}", lines=lines) + KINDS[kind]
        (Path(folder) / "task.yaml").write_text(text)
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
