"""A new version goes live by itself, or not at all, on the real engine; kill -9 changes nothing."""

import json
import os
import signal
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import wait_until
from service.adapters.manifest_yaml import load_manifest
from service.plugins.rollouts.log import read_log
from tests.canaries.requests import version_of
from tests.served.configuration import tiny_config
from tests.served.lora import LoraMaker
from tests.served.server import PATIENT, Server, running_server, started_server

NAMES = ("equal", "swapped", "breaking", "killed", "second", "refused", "shadowed")
"""Classifiers of the same weights; the first three have successors of these kinds.

`killed` stays in its first step, `second` in its second.
"""
WRITERS = ("same", "reworded", "switched")
"""Adapters for generation; the successors of the last two have other weights."""
LABELS = {"positive": " positive", "negative": " negative"}
SWAPPED = {"positive": " negative", "negative": " positive"}
TEMPLATE = "Is this good or bad? {input} Answer:"
# The next version of `breaking` leaves no room for the text.
LONG = "Think about the sea. " * 80
TEXT = "It was a very good day. " * 20
STEPS = [{"share": 0.3, "requests": 20}, {"share": 0.5, "requests": 20}]


@dataclass(frozen=True)
class Store:
    """Adapters on disk, and the configuration that releases their next versions."""

    root: Path
    config: dict[str, Any]

    @property
    def log(self) -> Path:
        return self.root / "releases"

    def changes(self, name: str) -> list[tuple[str, str]]:
        """Events of a name and who caused them."""
        return [(each.event, each.by) for each in read_log(self.log)[0] if each.name == name]


@pytest.fixture(scope="module")
def store(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("releases")
    maker = LoraMaker(tiny_folder, "tiny")
    maker.write(root / "weights", name="w", version="1.0.0", seed=1, prompts=[TEMPLATE], tokens=2)
    plans: dict[str, Any] = {}
    for name in NAMES:
        _write(root, maker, name, "1.0.0", TEMPLATE, LABELS)
        labels = SWAPPED if name in ("swapped", "shadowed") else LABELS
        template = LONG + TEMPLATE if name == "breaking" else TEMPLATE
        digest = _write(root, maker, name, "1.1.0", template, labels)
        source = str(root / f"{name}-1.1.0")
        plans[name] = {"source": source, "digest": digest, "sticky": "request", "canary": STEPS}
    plans["killed"] |= {"canary": [STEPS[0] | {"requests": 100_000}]}
    plans["second"] |= {"canary": [STEPS[0] | {"requests": 5}, STEPS[1] | {"requests": 100_000}]}
    plans["refused"] |= {"digest": "sha256:" + 64 * "0"}
    plans["shadowed"] |= {"shadow": {"requests": 1000, "share": 1.0, "busy_share": 1.0}}
    for name in WRITERS:
        plans[name] = _write_writers(root, maker, name)
    config = tiny_config(tiny_folder, max_model_len=512, max_num_seqs=16, max_lora_rank=8)
    config |= PATIENT | {
        # This machine is busy: latency is not what these versions differ in.
        "slo": {"ttft_ms": 600_000, "tpot_ms": 600_000},
        "adapters": [{"source": str(root / f"{name}-1.0.0")} for name in (*NAMES, *WRITERS)],
        "adapter_cache": {"path": str(root / "cache")},
        "releases": {"path": str(root / "releases"), "plans": plans},
    }
    return Store(root, config)


@pytest.fixture(scope="module")
def server(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started_server(tmp_path_factory.mktemp("server"), store.config) as server:
        yield server


def test_an_equal_version_goes_to_full_by_itself_and_no_answer_fails(
    server: Server, store: Store
) -> None:
    _ask_until(server, "equal", "full")
    assert store.changes("equal") == [
        ("configured", "configuration"),
        ("step", "configuration"),
        ("step", "rule:requests"),
        ("full", "rule:requests"),
    ]
    for name in ("equal", "equal@1.0.0", "equal@1.1.0"):
        assert _ask(server, name).status_code == 200
    listed = httpx.get(f"{server.url}/v1/adapters").json()["data"]
    assert {"equal": "1.1.0"}.items() <= {e["name"]: e["version"] for e in listed}.items()


def test_a_version_with_another_mix_of_labels_is_rolled_back_with_evidence(
    server: Server, store: Store
) -> None:
    before = _ask(server, "swapped@1.0.0").json()["data"][0]["label"]
    after = _ask(server, "swapped@1.1.0").json()["data"][0]["label"]
    assert before != after
    # No answer mixes both versions: each has the label of the version that it names.
    assert {
        (version_of(answer.headers["x-feedback-id"], store.log), answer.json()["data"][0]["label"])
        for answer in _ask_until(server, "swapped", "rolled_back")
    } == {("1.0.0", before), ("1.1.0", after)}
    (*_, last) = [each for each in read_log(store.log)[0] if each.name == "swapped"]
    assert last.by in ("rule:label negative", "rule:label positive")
    (evidence,) = last.evidence
    assert evidence["statistic"] >= evidence["bound"]
    assert {_ask(server, "swapped").json()["data"][0]["label"] for _ in range(10)} == {before}


def test_a_version_that_breaks_is_rolled_back_and_meets_few_users(
    server: Server, store: Store
) -> None:
    # It refuses the text as too long.
    _ask_until(server, "breaking", "rolled_back", answers={200, 400})
    (*_, last) = [each for each in read_log(store.log)[0] if each.name == "breaking"]
    assert last.by == "rule:invalid"
    # Refusals come at once and the old version's answers later, so some 6, in one of 700 runs > 10.
    assert last.evidence[0]["new"][1] < STEPS[0]["requests"]
    assert {_ask(server, "breaking").status_code for _ in range(10)} == {200}


def test_a_version_that_flips_labels_is_rolled_back_before_any_user_meets_it(
    server: Server, store: Store
) -> None:
    before = _ask(server, "shadowed@1.0.0").json()["data"][0]["label"]
    for _ in range(100):
        answer = _ask(server, "shadowed")
        assert answer.json()["data"][0]["label"] == before
        if _states(_releases(server))["shadowed"][0] == "rolled_back":
            break
    (*_, last) = [each for each in read_log(store.log)[0] if each.name == "shadowed"]
    assert last.event == "rolled_back"
    assert last.by == "rule:flips"
    (evidence,) = last.evidence
    assert evidence["statistic"] >= evidence["bound"]
    assert evidence["new"][1] <= 10


@pytest.mark.parametrize(("name", "words"), [("same", 0), ("reworded", 1)])
def test_generated_answers_are_compared_by_their_tokens_on_every_route(
    server: Server, store: Store, name: str, words: int
) -> None:
    said = {"messages": [{"role": "user", "content": "Tell me of the sea."}]}
    plain, greedy = {"prompt": "It was a"}, {"model": name, "temperature": 0, "max_tokens": 12}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/generate", plain),
        ("/v1/completions", plain),
        ("/v1/chat/completions", said),
    ]
    for path, body in asked:
        for streamed in (False, True):
            seen = _compared(server, name)
            answer = server.post(path, body | greedy | {"stream": streamed})
            assert answer.status_code == 200, answer.text
            wait_until(lambda: _compared(server, name) > seen, 300, f"the pair of {path}")  # noqa: B023
    (release,) = [each for each in _releases(server) if each["adapter"] == name]
    tests = {test["criterion"]: test for test in release["tests"]}
    assert tests["errors"]["new"] == [0, 6]
    assert tests["answers"]["new"] == [6 * words, 6]


def test_a_switch_under_load_leaves_every_answer_whole_and_of_one_version(server: Server) -> None:
    body = {"prompt": "It was a", "temperature": 0, "max_tokens": 100, "stream": True}
    url = f"{server.ops}/releases/switched"

    def written(model: str) -> str:
        answer = server.post("/v1/generate", body | {"model": model})
        *events, _, done = [
            each.removeprefix("data: ") for each in answer.text.split("\n\n") if each
        ]
        assert done == "[DONE]"
        return "".join(json.loads(event)["text"] for event in events)

    old, new = (written(f"switched@1.{minor}.0") for minor in (0, 1))
    assert old != new
    with ThreadPoolExecutor(4) as pool:
        given = [pool.submit(written, "switched") for _ in range(24)]
        for each, action in zip(given, cycle(("promote", "rollback", "retry")), strict=False):
            assert each.result() in (old, new)
            acted = httpx.post(url, json={"action": action, "by": "ann"})
            assert acted.status_code == 200, acted.text
    assert {each.result() for each in given} == {old, new}


def test_a_requested_structure_that_is_cut_is_seen(server: Server) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string", "minLength": 80}}}
    form = {"type": "json_schema", "json_schema": schema | {"required": ["text"]}}
    body = {"model": "same", "prompt": "It was a", "max_tokens": 12, "response_format": form}
    seen = _compared(server, "same")
    answer = server.post("/v1/generate", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["finish_reason"] == "length"
    wait_until(lambda: _compared(server, "same") > seen, 300, "the pair")
    (release,) = [each for each in _releases(server) if each["adapter"] == "same"]
    # Both versions were cut, which is no harm of the next one.
    (structure,) = [test for test in release["tests"] if test["criterion"] == "structure"]
    assert structure["new"] == [0, 1]


def test_the_golden_examples_are_asked_again_on_the_live_engine(server: Server) -> None:
    def proofs() -> dict[str, Any]:
        return {each["adapter"]: each.get("golden") for each in _releases(server)}

    wait_until(lambda: proofs()["same"], 300, "the golden proof")
    assert proofs()["same"] == {"proven": True, "passed": 1, "total": 1, "min_accuracy": 1.0}


@pytest.mark.slow
def test_the_state_after_kill_9_is_the_state_before_in_every_state(
    server: Server, store: Store, tmp_path: Path
) -> None:
    _ask_until(server, "equal", "full")
    _ask_until(server, "swapped", "rolled_back")
    while _step(server, "second") == 1:
        assert _ask(server, "second").status_code == 200
    for _ in range(40):
        assert _ask(server, "killed").status_code == 200
    before, served, changes = _counted(server), _served(server), read_log(store.log)
    assert {(each["state"], each.get("step")) for each in before} == {
        *(("shadow", 0), ("canary", 1), ("canary", 2)),
        *(("full", None), ("rolled_back", None), ("refused", None)),
    }
    wait_until(lambda: _kept(store) == 40, 300, "the kept counts")
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(300)
    with running_server(tmp_path, store.config) as restarted:
        assert _counted(restarted) == before
        assert _served(restarted) == served
        assert _ask(restarted, "killed").status_code == 200
    assert read_log(store.log) == changes


def _step(server: Server, name: str) -> int:
    (release,) = [each for each in _releases(server) if each["adapter"] == name]
    return int(release["step"])


def _served(server: Server) -> dict[str, tuple[str, list[str]]]:
    """The version that each name stands for, and all that can be asked for."""
    listed = httpx.get(f"{server.url}/v1/adapters").json()["data"]
    return {each["name"]: (each["version"], each["versions"]) for each in listed}


def _kept(store: Store) -> int:
    """Requests of the step in progress in the file of counts."""
    _, counts = json.loads((store.log / "counts.json").read_text())["killed"]
    (_, old, _, _, new, _), _ = counts["tests"]["errors"]
    return int(old + new)


def _write(
    root: Path, maker: LoraMaker, name: str, version: str, template: str, labels: dict[str, str]
) -> str:
    """Write a version of an adapter with the common weights; its digest."""
    draft = {
        "name": name,
        "version": version,
        "prompt": {"template": template},
        "classification": {"labels": labels},
    }
    return maker.write_classifier(root / f"{name}-{version}", root / "weights", draft)


def _write_writers(root: Path, maker: LoraMaker, name: str) -> dict[str, Any]:
    """Write both versions of an adapter for generation; the plan that stays in its shadow."""
    for version in ("1.0.0", "1.1.0"):
        seed = 2 if name != "same" and version == "1.1.0" else 1
        folder = root / f"{name}-{version}"
        maker.write(
            folder, name=name, version=version, seed=seed, prompts=["It was a good"], tokens=8
        )
    return {
        "source": str(folder),
        "digest": load_manifest(folder).digest,
        "sticky": "request",
        "shadow": {"requests": 1000, "share": 1.0, "busy_share": 1.0},
        "canary": STEPS,
    }


def _compared(server: Server, name: str) -> int:
    """Pairs of answers in an adapter's shadow."""
    (release,) = [each for each in _releases(server) if each["adapter"] == name]
    return int(release["requests"]["new"])


def _ask(server: Server, model: str) -> httpx.Response:
    return server.post("/v1/classify", {"model": model, "input": TEXT})


def _ask_until(
    server: Server, name: str, state: str, answers: Collection[int] = frozenset({200})
) -> list[httpx.Response]:
    """Ask, four at a time, until the release is in a state; the answers, none of another status."""
    found: list[httpx.Response] = []
    with ThreadPoolExecutor(4) as pool:
        for _ in range(60):
            found += pool.map(lambda _: _ask(server, name), range(8))
            assert {answer.status_code for answer in found} <= set(answers)
            if _states(_releases(server))[name][0] == state:
                return found
    raise AssertionError(f"{name}: {_releases(server)}")


def _releases(server: Server) -> list[dict[str, Any]]:
    response = httpx.get(f"{server.ops}/releases", timeout=300)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["releases"]
    return found


def _counted(server: Server) -> list[dict[str, Any]]:
    """Every release but for its golden proof, which a start begins anew."""
    return [each | {"golden": None} for each in _releases(server)]


def _states(releases: list[dict[str, Any]]) -> dict[str, tuple[str, str, float]]:
    return {each["adapter"]: (each["state"], each["live"], each["share"]) for each in releases}
