"""A client in Python by openapi-python-client: it compiles, and a typed chat is answered."""

import compileall
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from tried import JAPAN, MODEL, URL, expect, tried

folder = Path(tempfile.mkdtemp(dir=Path.cwd(), prefix="generated-"))
sys.path.insert(0, str(folder))


@tried("generated and compiled")
def generate():
    config = folder / "config.yaml"
    config.write_text("post_hooks: []\n")
    program = Path(sys.executable).parent / "openapi-python-client"
    done = subprocess.run(
        [
            *(program, "generate", "--url", f"{URL}/openapi.json", "--meta", "none"),
            *("--output-path", folder / "generated", "--config", config, "--fail-on-warning"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert compileall.compile_dir(folder / "generated", quiet=1)


@tried("a typed chat")
def chat():
    generated = import_module("generated")
    route = import_module("generated.api.openai.chat_completions_v1_chat_completions_post")
    asked = generated.models.ChatBody.from_dict(
        {"model": MODEL, "messages": [{"role": "user", "content": JAPAN}], "temperature": 0}
    )
    answer = route.sync(client=generated.Client(base_url=URL), body=asked)
    expect(answer.choices[0].message.content, "Tokyo")


@tried("a typed classification")
def classify():
    generated = import_module("generated")
    route = import_module("generated.api.classification.classify_v1_classify_post")
    asked = generated.models.ClassifyRequest(
        model=MODEL, input_="What a terrible film!", candidate_labels=["positive", "negative"]
    )
    answer = route.sync(client=generated.Client(base_url=URL), body=asked)
    assert answer.data[0].label == "negative"
