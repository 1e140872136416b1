"""The clients, and the trial of one: its script is run against the service."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.clients.install import CACHE, NODE, python_of
from tests.served.configuration import SMOLLM2

CLIENTS: Mapping[str, str] = {
    "python/openai-sdk.py": "openai",
    "python/anthropic-sdk.py": "anthropic",
    "python/langgraph-agent.py": "langgraph",
    "python/pydantic-ai.py": "pydantic-ai-slim",
    "python/instructor-client.py": "instructor",
    "python/openai-agents.py": "openai-agents",
    "python/smolagents-agent.py": "smolagents",
    "python/langchain-openai.py": "langchain-openai",
    "python/cohere-sdk.py": "cohere",
    "python/litellm-sdk.py": "litellm",
    "python/litellm-proxy.py": "litellm[proxy]",
    "python/lm-eval.py": "lm-eval",
    "python/guidellm.py": "guidellm",
    "python/haystack-generator.py": "haystack-ai",
    "python/huggingface-hub.py": "huggingface-hub",
    "python/llama-index.py": "llama-index-llms-openai-like",
    "python/crewai-crew.py": "crewai",
    "python/autogen-agent.py": "autogen-agentchat",
    "python/semantic-kernel.py": "semantic-kernel",
    "python/google-adk.py": "google-adk",
    "python/mem0-memory.py": "mem0ai",
    "python/dspy-program.py": "dspy",
    "python/vllm-router.py": "vllm-router",
    "python/smg-gateway.py": "smg",
    "python/sglang-router.py": "sglang-router",
    "python/openapi-python-client.py": "openapi-python-client",
    "node/openai-sdk.mjs": "openai",
    "node/anthropic-sdk.mjs": "@anthropic-ai/sdk",
    "node/ai-sdk.mjs": "ai",
    "node/langchain.mjs": "@langchain/openai",
    "node/openai-agents.mjs": "@openai/agents",
    "node/mastra.mjs": "@mastra/core",
    "node/promptfoo.mjs": "promptfoo",
    "node/openapi-typescript.mjs": "openapi-typescript",
    "node/hey-api.mjs": "@hey-api/openapi-ts",
    "java/HttpClientPost.java": "java.net.http",
}
"""The script of each client, and the package whose version the table shows."""

MODEL, TOOLS, DECIDE, ENCODER = "smollm2-135m-instruct", "tools", "decide", "all-minilm-l6-v2"

_SECONDS = 600
_SHOWN = 300


@dataclass(frozen=True)
class Trial:
    """A thing that a client tried, and the error that it met, if any.

    `because` is said of an error that is not ours to mend: whose fault it is.
    """

    what: str
    failure: str | None
    because: str = ""


def trials(script: str, url: str) -> Iterator[Trial]:
    """Run a client's script against the service at this address; yields each thing it tried."""
    names = {"MODEL": MODEL, "TOOLS": TOOLS, "DECIDE": DECIDE, "ENCODER": ENCODER}
    asked = {"URL": url, "TOKENIZER": str(SMOLLM2.resolve()), **names}
    asked |= {"SERVICE": sys.executable, "ROOT": str(Path.cwd())}
    where = {f"CLIENTS_{key}": value for key, value in asked.items()}
    done = subprocess.run(
        [*_program(script), script.rpartition("/")[2]],
        cwd=CACHE / script.partition("/")[0],
        env=os.environ | where | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.startswith('{"what":'):
            yield Trial(**json.loads(line))
    if done.returncode:
        yield Trial("the script itself", done.stderr[-_SHOWN:].strip())


def _program(script: str) -> list[str]:
    kind = script.rpartition(".")[2]
    return {"py": [str(python_of(script))], "mjs": [str(NODE)], "java": ["java"]}[kind]
