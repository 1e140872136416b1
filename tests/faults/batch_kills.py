"""A service that is killed again and again during one batch, and two replicas in turn.

The service is killed with SIGKILL, the last time as soon as all lines are answered and their files
are written, and started anew on the same folder. AssertionError at the end if a line has no answer,
or two.
"""

import json
import random
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from loadtests.processes import wait_until
from tests.served.configuration import tiny_config
from tests.served.server import Server, started_server

_PATIENCE_S = 600
_ENDPOINT = "/v1/completions"


def survive(
    folder: Path,
    model: Path,
    kills: int,
    lines: int,
    files: str | None = None,
    tokens: int = 32,
    seed: int = 1,
) -> int:
    """Have one batch survive so many kills; returns how many lines were asked more than once."""
    config = tiny_config(model) | {"batches": {"path": str(folder / "batches"), "files": files}}
    chance, batch, asked = random.Random(seed), "", list[str]()
    for run in range(kills + 1):
        place = folder / f"run-{run}"
        place.mkdir()
        with started_server(place, config) as server:
            batch = batch or _create(server, lines, tokens)
            if run < kills:
                last = run == kills - 1
                least = lines if last else (run + chance.random()) * lines / kills
                _wait(server, batch, lambda now, least=least: _answered(now) >= least)
                server.process.send_signal(signal.SIGKILL)
                server.process.wait(60)
            else:
                ended = _wait(server, batch, lambda now: now["status"] == "completed")
                _check(server, ended, lines)
            asked += _asked(server.log)
        print(f"run {run + 1}: {len(asked)} requests so far", flush=True)
    return len(asked) - len(set(asked))


def take_over(
    folder: Path,
    model: Path,
    faults: int,
    lines: int,
    files: str,
    storage: str,
    tokens: int,
) -> int:
    """Have one batch of two replicas survive so many faults of the one that runs it; returns how
    many lines were asked more than once.

    The replicas share the records in `storage`. The one that runs the batch is stopped until the
    other has gone on, the next time killed and started anew, and so in turn.
    """
    # One line at a time, so that the batch outlasts the starts.
    admission = {"max_wait_ms": 60_000, "background": {"max_in_flight": 1}}
    logs = list[Path]()
    with ExitStack() as stack:

        def started(name: str) -> Server:
            place = folder / name
            place.mkdir()
            batches = {"path": str(place / "batches"), "files": files, "storage": storage}
            config = tiny_config(model) | {"admission": admission, "batches": batches}
            server = stack.enter_context(started_server(place, config))
            logs.append(server.log)
            return server

        replicas = [started(name) for name in ("one", "two")]
        batch = _create(replicas[0], lines, tokens)
        for fault in range(faults):
            runs = _runner_of(replicas)
            holder, other = replicas[runs], replicas[1 - runs]
            killed = fault % 2 == 1
            holder.process.send_signal(signal.SIGKILL if killed else signal.SIGSTOP)
            before = _answered(_wait(other, batch, lambda _: True))
            _wait(other, batch, lambda now, before=before: _answered(now) > before + 1)
            if killed:
                replicas[runs] = started(f"again-{fault}")
            else:
                holder.process.send_signal(signal.SIGCONT)
            print(f"fault {fault + 1}: the other replica goes on", flush=True)
        for replica in replicas:
            ended = _wait(replica, batch, lambda now: now["status"] == "completed")
            _check(replica, ended, lines)
        asked = [each for log in logs for each in _asked(log)]
    return len(asked) - len(set(asked))


def _runner_of(replicas: list[Server]) -> int:
    """The place of the replica that answers lines now."""
    series = "inference_batch_lines_total"
    before = [replica.metric(series) for replica in replicas]

    def grown() -> list[bool]:
        return [each.metric(series) > n for each, n in zip(replicas, before, strict=True)]

    wait_until(lambda: any(grown()), _PATIENCE_S, "a line's answer")
    return grown().index(True)


def _create(server: Server, lines: int, tokens: int) -> str:
    """Make a batch of so many lines; returns its id."""
    body = {"model": server.model, "prompt": "Hello", "max_tokens": tokens, "temperature": 0}
    content = "".join(
        json.dumps({"custom_id": str(n), "method": "POST", "url": _ENDPOINT, "body": body}) + "\n"
        for n in range(lines)
    )
    form: dict[str, Any] = {"files": {"file": content}, "data": {"purpose": "batch"}}
    file = httpx.post(f"{server.url}/v1/files", timeout=60, **form).raise_for_status().json()
    asked = {"input_file_id": file["id"], "endpoint": _ENDPOINT, "completion_window": "24h"}
    return str(server.post("/v1/batches", asked).raise_for_status().json()["id"])


def _wait(server: Server, batch: str, holds: Any) -> dict[str, Any]:
    """The batch, once something holds of it."""
    seen: dict[str, Any] = {}

    def looked() -> bool:
        nonlocal seen
        seen = httpx.get(f"{server.url}/v1/batches/{batch}", timeout=60).raise_for_status().json()
        return bool(holds(seen))

    wait_until(looked, _PATIENCE_S, f"{batch}: {holds}", forgiven=(httpx.TransportError,))
    return seen


def _answered(batch: dict[str, Any]) -> int:
    return int(batch["request_counts"]["completed"])


def _check(server: Server, batch: dict[str, Any], lines: int) -> None:
    """Check that every line has one answer, at its place."""
    assert batch["error_file_id"] is None, batch
    assert batch["request_counts"] == {"total": lines, "completed": lines, "failed": 0}
    address = f"{server.url}/v1/files/{batch['output_file_id']}/content"
    answers = [json.loads(line) for line in httpx.get(address, timeout=60).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == [str(n) for n in range(lines)]
    texts = {answer["response"]["body"]["choices"][0]["text"] for answer in answers}
    assert len(texts) == 1, texts


def _asked(log: Path) -> list[str]:
    """The ids of the lines whose requests were answered, by the log."""
    told = (json.loads(line) for line in log.read_text().splitlines() if '"batch_req_' in line)
    return [line["request_id"] for line in told if line.get("status") == 200]
