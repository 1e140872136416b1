"""A gateway that is started before the service, and what OpenAI's SDK does through it."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
from openai import OpenAI
from tried import ENCODER, JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried

SECONDS = 120
weather = {
    "name": "get_weather",
    "description": "Weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


held = []


def free_port():
    """A port that stays bound, so that only a server which sets SO_REUSEADDR gets it."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    held.append(holder)
    return holder.getsockname()[1]


@contextmanager
def started(program, *, ready, **environment):
    """The address of a gateway, once it answers at this path; it is stopped afterwards."""
    port = free_port()
    gateway = subprocess.Popen(
        [*program, "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait(url + ready, gateway)
        yield url
    finally:
        gateway.terminate()
        gateway.wait()


def wait(url, gateway):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and gateway.poll() is None:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit("the gateway did not start")


class Through:
    """OpenAI's SDK, and posts, through the gateway at an address.

    `faults` are what is known to fail through it, each with a text of its error, and whose fault
    it is.
    """

    def __init__(self, url, key="none", faults=None):
        self.client = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._url, self._faults = url, faults or {}

    def tried(self, what):
        return tried(what, *self._faults.get(what, ()))

    def chat(self, model=MODEL, **options):
        asked = [{"role": "user", "content": JAPAN if model == MODEL else OSLO}]
        return self.client.chat.completions.create(
            model=model, messages=asked, temperature=0, **options
        )

    def post(self, path, **body):
        answer = httpx.post(self._url + path, json=body, headers=self._headers, timeout=60)
        assert answer.is_success, f"{answer.status_code}: {answer.text}"
        return answer.text


def try_openai(through):
    """Try the routes of OpenAI's that gateways have."""
    client = through.client

    @through.tried("chat")
    def chat():
        expect(through.chat().choices[0].message.content, "Tokyo")

    @through.tried("stream with usage")
    def stream():
        chunks = list(through.chat(stream=True, stream_options={"include_usage": True}))
        expect("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), "Tokyo")
        assert chunks[-1].usage.completion_tokens > 0

    @through.tried("tool call of an adapter")
    def tool():
        answer = through.chat(TOOLS, tools=[{"type": "function", "function": weather}])
        (call,) = answer.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Oslo"}

    @through.tried("completion with log-probabilities")
    def completion():
        answer = client.completions.create(
            model=MODEL, prompt="The sea is", max_tokens=4, logprobs=2
        )
        assert len(answer.choices[0].logprobs.token_logprobs) == 4

    @through.tried("embeddings")
    def embeddings():
        answer = client.embeddings.create(model=ENCODER, input=["a", "b"])
        assert [len(each.embedding) for each in answer.data] == [384, 384]

    @through.tried("list of models")
    def models():
        listed = {each.id for each in client.models.list()}
        assert {MODEL, TOOLS, ENCODER} <= listed, listed

    @through.tried("message, by Anthropic's API")
    def message():
        asked = [{"role": "user", "content": JAPAN}]
        said = through.post(
            "/v1/messages", model=MODEL, messages=asked, max_tokens=32, temperature=0
        )
        expect(said, "Tokyo")


def try_router(module, faults):
    """Start a router by its module before the service, as its only worker, and try all routes."""
    options = ["--worker-urls", URL, "--prometheus-port", str(free_port())]
    with started([sys.executable, "-m", *module, *options], ready="/v1/models") as url:
        through = Through(url, faults=faults)
        try_openai(through)
        try_others(through)


def try_others(through):
    """Try what routers do to fields that are not OpenAI's, and to other routes of the service."""

    @through.tried("response")
    def response():
        answer = through.client.responses.create(model=MODEL, input=JAPAN, temperature=0)
        expect(answer.output_text, "Tokyo")

    @through.tried("choice of structured_outputs")
    def choice():
        answer = through.chat(extra_body={"structured_outputs": {"choice": ["Lima"]}})
        expect(answer.choices[0].message.content, "Lima")

    @through.tried("/v1/classify of an adapter")
    def adapter():
        expect(through.post("/v1/classify", model="sentiment", input="A fine film."), "positive")

    @through.tried("/v1/classify with labels")
    def labels():
        labels = ["good", "bad"]
        text = "A fine film."
        expect(
            through.post("/v1/classify", model=MODEL, input=text, candidate_labels=labels), "good"
        )

    @through.tried("/v1/rerank")
    def rerank():
        through.post("/v1/rerank", model=ENCODER, query="a", documents=["a", "b"])

    @through.tried("/v1/generate")
    def generate():
        through.post("/v1/generate", model=MODEL, prompt="a", max_tokens=2)
