"""Ask a running service for a completion and a classification: smoke.py URL MODEL.

Exits with a sentence when an answer is not what it must be. API_KEY, where set, is sent.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The JSON answer to a POST; ends the program with the server's words when it refuses."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            decoded: dict[str, Any] = json.load(answer)
            return decoded
    except urllib.error.HTTPError as error:
        sys.exit(f"{url}: {error.code}: {error.read(2000).decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{url}: {error}")


def complete(base: str, model: str) -> str:
    """The text of a short completion, never empty."""
    answer = ask(
        f"{base}/v1/generate",
        {"model": model, "prompt": "The sea is", "max_tokens": 8, "temperature": 0},
    )
    text: str = answer["outputs"][0]["text"]
    if not text or not answer["usage"]["completion_tokens"]:
        sys.exit(f"/v1/generate answered without a completion: {answer}")
    return text


def classify(base: str, model: str) -> dict[str, float]:
    """The probabilities of two labels, which sum to one."""
    labels = ["positive", "negative"]
    answer = ask(
        f"{base}/v1/classify",
        {
            "model": model,
            "input": "I loved every minute of this film",
            "candidate_labels": labels,
            "instruction": "What is the sentiment of the text?",
        },
    )
    scores = {entry["label"]: entry["score"] for entry in answer["data"][0]["scores"]}
    if set(scores) != set(labels) or abs(sum(scores.values()) - 1) > 1e-6:
        sys.exit(f"/v1/classify answered no probabilities of {labels}: {answer}")
    return scores


def main(base: str, model: str) -> None:
    """Ask for both and say what came."""
    sys.stdout.write(f"completion: {complete(base, model)!r}\n")
    sys.stdout.write(f"classification: {classify(base, model)}\n")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), sys.argv[2])
