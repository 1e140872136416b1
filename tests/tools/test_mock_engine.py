"""The mock engine's parts: the tokens of a request, those that run, the time between steps."""

import time
from pathlib import Path
from typing import Any

import pytest
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from tools.mock_engine.pace import Pace
from tools.mock_engine.queue import StreamQueue
from tools.mock_engine.stream import Stream
from tools.mock_engine.words import word_ids

WORDS = [11, 12, 13]


def stream(name: str = "a", max_len: int = 100, prompt: int = 4, **params: Any) -> Stream:
    request = EngineCoreRequest(
        request_id=name,
        prompt_token_ids=[1] * prompt,
        mm_features=None,
        sampling_params=SamplingParams(**params),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    return Stream(request, WORDS, max_len)


def test_a_stream_ends_with_its_last_token() -> None:
    made = stream(max_tokens=3)
    outputs = [made.step() for _ in range(3)]

    assert [len(output.new_token_ids) for output in outputs] == [1, 1, 1]
    assert all(output.new_token_ids[0] in WORDS for output in outputs)
    assert [output.finish_reason for output in outputs] == [None, None, FinishReason.LENGTH]
    assert made.ended


def test_a_stream_ends_where_the_model_has_no_room() -> None:
    made = stream(max_len=6, prompt=4, max_tokens=50)
    made.step()
    assert made.step().finish_reason is FinishReason.LENGTH


def test_only_the_first_output_says_when_it_was_queued_and_how_long_its_prompt_was() -> None:
    made = stream(max_tokens=2)
    made.scheduled()
    first, second = made.step(), made.step()

    assert len(first.events or []) == 2
    assert first.prefill_stats is not None
    assert first.prefill_stats.num_prompt_tokens == 4
    assert second.events is None


@pytest.mark.parametrize(
    ("params", "beside"),
    [({"logprob_token_ids": [7, 9]}, [7, 9]), ({"logprobs": 2}, WORDS[:2]), ({"logprobs": 0}, [])],
)
def test_log_probabilities_survive_the_way_to_the_front_end(
    params: dict[str, Any], beside: list[int]
) -> None:
    output = stream(max_tokens=1, **params).step()
    read = MsgpackDecoder(EngineCoreOutput).decode(MsgpackEncoder().encode(output)).new_logprobs

    assert read.logprob_token_ids.tolist() == [[*output.new_token_ids, *beside]]
    assert read.logprobs.shape == (1, 1 + len(beside))
    assert (read.logprobs < 0).all()


def test_no_more_run_than_there_are_slots_and_an_abort_frees_one() -> None:
    queue = StreamQueue(most=2)
    for name in "abc":
        queue.add(stream(name, max_tokens=5))

    assert [each.id for each in queue.next()] == ["a", "b"]
    assert (queue.stats().num_running_reqs, queue.stats().num_waiting_reqs) == (2, 1)
    assert [each.id for each in queue.finish_requests(["a", "unknown"], None)] == ["a"]
    assert [each.id for each in queue.next()] == ["b", "c"]
    queue.finish_requests(None, None)
    assert not queue.has_requests()


def test_words_are_words() -> None:
    vocabulary = {"Ġthe": 5, "▁und": 7, "Ġ12": 1, "the": 2, "Ġé": 3, "<s>": 4}
    assert word_ids(vocabulary) == [5, 7]
    assert word_ids({"x": 0, "y": 1}) == [1]


def test_the_pace_follows_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    file = tmp_path / "rate"
    file.write_text("4")
    pace = Pace(str(file))
    for _ in range(3):
        pace.wait()
    assert slept == [0.25, 0.25]
    now[0] += 10  # a pause: the next step comes at once, and no other hurries
    pace.wait()
    pace.wait()
    assert slept == [0.25] * 3
    file.write_text("")
    pace.wait()  # was due by the old rate
    pace.wait()
    assert len(slept) == 4
