"""guidellm: short runs of its load test."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tried import ENCODER, MODEL, TOKENIZER, URL, tried

REQUESTS = 6


def run(route, model, **asked):
    sizes = "".join(f",{name}={size}" for name, size in asked.items())
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "backend": f"kind=openai_http,target={URL},model={model},request_format={route}",
            "profile": "kind=concurrent,streams=3",
            "constraint": f"kind=max_requests,count={REQUESTS}",
            "tokenizer": f"kind=huggingface_auto,model={TOKENIZER}",
            "data": f"kind=synthetic_text{sizes}",
            "output": f"kind=json,path={folder}/found.json",
        }
        program = [str(Path(sys.executable).with_name("guidellm")), "run", "--disable-console"]
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        done = subprocess.run(
            [*program, *flags], cwd=folder, capture_output=True, text=True, check=False
        )
        assert not done.returncode, (done.stderr or done.stdout)[-300:]
        (found,) = json.loads(Path(folder, "found.json").read_text())["benchmarks"]
    counts = found["metrics"]["request_totals"]
    assert (counts["successful"], counts["errored"]) == (REQUESTS, 0), counts


@tried("chats, streamed")
def chats():
    run("/v1/chat/completions", MODEL, prompt_tokens=32, output_tokens=8)


@tried("completions, streamed")
def completions():
    run("/v1/completions", MODEL, prompt_tokens=32, output_tokens=8)


@tried("embeddings")
def embeddings():
    run("/v1/embeddings", ENCODER, prompt_tokens=32)
