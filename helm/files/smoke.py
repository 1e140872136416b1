"""Ask a running service for answers: smoke.py URL MODEL, or smoke.py URL ENCODER encoder.

Of a language model it asks a completion and a classification, of an encoder what its task is.
Exits with a sentence when an answer is not what it must be. API_KEY, where set, is sent.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

_ENCODER_ROUTES: dict[str, tuple[dict[str, Any], str]] = {
    "embeddings": ({"input": "The cat sits outside."}, "data"),
    "rerank": ({"query": "What does a cat do?", "documents": ["It sits.", "4 %"]}, "results"),
    "classify": ({"input": "The cat sits outside."}, "data"),
}
"""The route of each task, what it is asked, and the key of its answer."""


class Refused(Exception):
    """The server refused; the message is its own words."""


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The JSON answer to a POST; ends the program with the server's words when it refuses."""
    try:
        return answered(url, body)
    except Refused as refused:
        sys.exit(str(refused))


def answered(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The JSON answer to a POST; raises Refused with the server's words."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            decoded: dict[str, Any] = json.load(answer)
            return decoded
    except urllib.error.HTTPError as error:
        words = error.read(2000).decode(errors="replace")
        raise Refused(f"{url}: {error.code}: {words}") from None
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


def read(base: str, encoder: str) -> str:
    """The route of an encoder's task and the first value of its answer; others are refused."""
    refusals = []
    for path, (body, key) in _ENCODER_ROUTES.items():
        try:
            answer = answered(f"{base}/v1/{path}", {"model": encoder, **body})
        except Refused as refused:
            refusals.append(str(refused))
            continue
        first = answer[key][0] if answer.get(key) else None
        if not first or "error" in first:
            sys.exit(f"/v1/{path} answered nothing: {answer}")
        return f"{path}: {json.dumps(first)[:80]}"
    sys.exit("\n".join(refusals))


def main(base: str, model: str, kind: str = "") -> None:
    """Ask, and say what came."""
    if kind == "encoder":
        sys.stdout.write(f"{read(base, model)}\n")
        return
    sys.stdout.write(f"completion: {complete(base, model)!r}\n")
    sys.stdout.write(f"classification: {classify(base, model)}\n")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), *sys.argv[2:])
