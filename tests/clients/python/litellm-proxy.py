"""LiteLLM's proxy before the service, as a gateway: chat, stream, tool, embeddings, Messages."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from openai import OpenAI
from tried import ENCODER, JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried

SECONDS = 120
KEY = f"sk-{secrets.token_hex(16)}"  # it does not start without one
CONFIG = {
    "model_list": [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"{URL}/v1",
                "api_key": "none",
            },
        }
        for name in (MODEL, TOOLS, ENCODER)
    ]
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(url, proxy):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and proxy.poll() is None:
        try:
            if httpx.get(f"{url}/health/liveliness").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise SystemExit("the proxy did not start")


def try_through(url):
    client = OpenAI(base_url=f"{url}/v1", api_key=KEY)
    asked = [{"role": "user", "content": JAPAN}]

    @tried("chat")
    def chat():
        answer = client.chat.completions.create(model=MODEL, messages=asked, temperature=0)
        expect(answer.choices[0].message.content, "Tokyo")

    @tried("stream with usage")
    def stream():
        chunks = list(
            client.chat.completions.create(
                model=MODEL,
                messages=asked,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        expect("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), "Tokyo")
        assert chunks[-1].usage.completion_tokens > 0

    @tried("tool call")
    def tool():
        function = {
            "name": "get_weather",
            "description": "Weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        }
        answer = client.chat.completions.create(
            model=TOOLS,
            messages=[{"role": "user", "content": OSLO}],
            tools=[{"type": "function", "function": function}],
            temperature=0,
        )
        (call,) = answer.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Oslo"}

    @tried("completion with log-probabilities")
    def completion():
        answer = client.completions.create(
            model=MODEL, prompt="The sea is", max_tokens=4, logprobs=2
        )
        assert len(answer.choices[0].logprobs.token_logprobs) == 4

    @tried("embeddings")
    def embeddings():
        answer = client.embeddings.create(model=ENCODER, input=["a", "b"])
        assert [len(each.embedding) for each in answer.data] == [384, 384]

    @tried("message, by Anthropic's API")
    def message():
        body = {"model": MODEL, "messages": asked, "max_tokens": 32, "temperature": 0}
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.post(f"{url}/v1/messages", json=body, headers=headers, timeout=60)
        expect(answer.text, "Tokyo")


with tempfile.TemporaryDirectory() as folder:
    config = Path(folder) / "config.yaml"
    config.write_text(json.dumps(CONFIG))
    port = free_port()
    program = [Path(sys.executable).with_name("litellm"), "--config", config]
    proxy = subprocess.Popen(
        [*program, "--host", "127.0.0.1", "--port", str(port)],
        # Its table of prices comes with the package.
        env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait(address, proxy)
        try_through(address)
    finally:
        proxy.terminate()
        proxy.wait()
