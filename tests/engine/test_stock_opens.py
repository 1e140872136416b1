"""What vLLM's public client serves and the fast one does not: drafted tokens and several ranks."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import wait_until
from service.settings.tree import ModelSettings, Settings
from service.vllm.arguments import engine_config, parse_engine_arguments
from service.vllm.engine import start_llm
from service.vllm.environment import THREAD_BINDING
from service.vllm.self_check import reads_labels
from service.vllm.stock import stop_llm
from service.vllm.versions import Choice
from tests.served.configuration import ENGINE, tiny_config
from tests.served.lora import LoraMaker
from tests.served.server import PATIENT, Server, running_server

DRAFTS = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3}
REPEATED = "to be or not to be, to be or not to be, to be or"
PROMPT = "The lake says"
TOKENS = 24
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": {"enum": ["abc", "abd"]}, "maxItems": 5}},
    "required": ["a"],
    "additionalProperties": False,
}
COMPLETION = {"prompt": REPEATED, "max_tokens": TOKENS, "temperature": 0}
CHAT = {"messages": [{"role": "user", "content": REPEATED}], "max_tokens": TOKENS, "temperature": 0}
LABELS = {"input": ["x", REPEATED], "candidate_labels": ["good", "bad", "fair"]}
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "completion": ("/v1/completions", COMPLETION),
    "several": ("/v1/completions", COMPLETION | {"prompt": [REPEATED, "a b a b", PROMPT]}),
    "stop": ("/v1/completions", COMPLETION | {"stop": ["the", "not"], "ignore_eos": True}),
    "log-probabilities": ("/v1/completions", COMPLETION | {"logprobs": 3}),
    "penalty": ("/v1/completions", COMPLETION | {"frequency_penalty": 1.0}),
    "structure": (
        "/v1/chat/completions",
        CHAT
        | {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": SCHEMA},
            }
        },
    ),
    "labels": ("/v1/classify", LABELS),
    "confidence": (
        "/v1/generate",
        {"prompt": REPEATED, "max_tokens": 9, "confidence": True, "temperature": 0},
    ),
}
READS = 12


@pytest.fixture(scope="module")
def adapter(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An adapter of the one-layer model, and peft's answer to the prompt."""
    folder = tmp_path_factory.mktemp("adapters") / "first"
    (answer,) = LoraMaker(tiny_folder, "tiny").write(
        folder, name="first", version="1.0.0", seed=0, prompts=[PROMPT], tokens=TOKENS
    )
    return folder, answer


def config_with(model: Path, adapter: Path, **engine: Any) -> dict[str, Any]:
    """The configuration with this adapter; the client is chosen by the arguments."""
    config = tiny_config(model, max_lora_rank=8, **engine)
    return (
        config
        | PATIENT
        | {
            "adapters": [{"source": str(adapter)}],
            "adapter_cache": {"path": str(adapter.parent / "cache")},
            "watchdog": PATIENT["watchdog"] | {"probe_s": 3600},
        }
    )


@pytest.fixture(scope="module")
def drafting(
    tiny_folder: Path, adapter: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    config = config_with(tiny_folder, adapter[0], speculative_config=DRAFTS, max_model_len=8192)
    config["admission"] = config["admission"] | {"at_deadline": "length"}
    with running_server(tmp_path_factory.mktemp("drafting"), config) as running:
        yield running


@pytest.fixture(scope="module")
def ranks(
    tiny_folder: Path, adapter: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    config = config_with(tiny_folder, adapter[0], data_parallel_size=2, max_num_seqs=4)
    # Without binding the workers are forked, as others are.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(THREAD_BINDING, "nobind")  # wins over `cpu.cores`
        with running_server(tmp_path_factory.mktemp("ranks"), config) as running:
            yield running


def said(server: Server, name: str) -> Any:
    """What an answer says, without ids and times, its numbers rounded."""
    path, body = BODIES[name]
    answer = server.post(path, {"model": "tiny"} | body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return rounded([found.get(key) for key in ("choices", "outputs", "results", "data", "usage")])


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items() if key != "cached_tokens"}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value


def by_engine(server: Server, name: str) -> dict[str, float]:
    """The values of a series by rank."""
    text = httpx.get(f"{server.ops}/metrics", timeout=60).text
    pattern = rf'^{name}{{[^}}]*engine="(\d+)"[^}}]*}} (\S+)$'
    found: dict[str, float] = {}
    for rank, value in re.findall(pattern, text, re.MULTILINE):
        found[rank] = found.get(rank, 0.0) + float(value)
    return found


async def posted(server: Server, *asked: tuple[str, dict[str, Any]]) -> list[httpx.Response]:
    """The answers of requests that are made at once."""
    async with httpx.AsyncClient(base_url=server.url, timeout=600) as client:
        return await asyncio.gather(*(client.post(path, json=body) for path, body in asked))


def test_the_arguments_choose_the_public_client(drafting: Server) -> None:
    metrics = httpx.get(f"{drafting.ops}/metrics", timeout=60).text
    assert 'inference_engine_client_info{client="stock",vllm=' in metrics
    assert (
        "engine.speculative_config: served by the public client alone" in drafting.log.read_text()
    )


@pytest.mark.parametrize("name", BODIES)
def test_answers_with_drafts_are_those_without(drafting: Server, tiny: Server, name: str) -> None:
    assert said(drafting, name) == said(tiny, name)


def test_drafted_tokens_are_accepted_and_charged_one_by_one(drafting: Server) -> None:
    before = drafting.metric("vllm:spec_decode_num_accepted_tokens_total")
    charged = drafting.metric("inference_tokens_total")
    body = {"model": "tiny", **COMPLETION, "ignore_eos": True}
    used = drafting.post("/v1/completions", body).json()["usage"]
    assert used["completion_tokens"] == TOKENS
    assert drafting.metric("vllm:spec_decode_num_accepted_tokens_total") - before > TOKENS / 3
    assert drafting.metric("inference_tokens_total") - charged == used["total_tokens"]


async def test_labels_are_exact_beside_drafts_and_log_probabilities(drafting: Server) -> None:
    alone = drafting.post("/v1/classify", {"model": "tiny"} | LABELS).json()["data"]
    long = {"model": "tiny", "prompt": REPEATED, "max_tokens": 400, "ignore_eos": True}
    greedy = long | {"temperature": 0}
    before = drafting.metric("vllm:spec_decode_num_accepted_tokens_total")
    *reads, plain, told = await posted(
        drafting,
        *[("/v1/classify", {"model": "tiny"} | LABELS)] * READS,
        ("/v1/completions", greedy),
        ("/v1/completions", greedy | {"logprobs": 5}),
    )
    assert plain.status_code == told.status_code == 200
    assert plain.json()["choices"][0]["text"] == told.json()["choices"][0]["text"]
    assert drafting.metric("vllm:spec_decode_num_accepted_tokens_total") > before
    for read in reads:
        assert read.status_code == 200, read.text
        for found, expected in zip(read.json()["data"], alone, strict=True):
            assert found["probs"] == pytest.approx(expected["probs"], abs=1e-5)


async def test_an_adapter_answers_beside_drafts_of_the_base(
    drafting: Server, adapter: tuple[Path, str]
) -> None:
    golden = {"model": "first", "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
    base = {"model": "tiny", **COMPLETION, "ignore_eos": True}
    answers = await posted(drafting, *[("/v1/completions", each) for each in (base, golden) * 4])
    texts = [answer.json()["choices"][0]["text"] for answer in answers]
    assert set(texts[1::2]) == {adapter[1]}
    assert len(set(texts[0::2])) == 1


def test_a_deadline_cuts_drafted_answers(drafting: Server) -> None:
    body = {"model": "tiny", **COMPLETION, "max_tokens": 8000, "ignore_eos": True}
    for timeout_ms in (500, 1000, 2000, 4000, 8000, 16_000):
        headers = {"x-request-timeout-ms": str(timeout_ms)}
        answer = drafting.post("/v1/completions", body, headers=headers)
        if answer.status_code != 504:
            break
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert 0 < answer.json()["usage"]["completion_tokens"] < 8000
    running = "vllm:num_requests_running"
    wait_until(lambda: drafting.metric(running) == 0, 300, "an engine that ended it")


def test_what_vllm_cannot_do_beside_drafts_is_refused(drafting: Server) -> None:
    body = {"model": "tiny", **COMPLETION, "logit_bias": {"5": 10}}
    answer = drafting.post("/v1/completions", body)
    assert answer.status_code == 400
    assert "speculative decoding" in answer.json()["error"]["message"]


@pytest.mark.slow
async def test_two_ranks_answer_as_one(
    ranks: Server, tiny: Server, adapter: tuple[Path, str]
) -> None:
    assert said(ranks, "labels") == said(tiny, "labels")
    assert said(ranks, "several") == said(tiny, "several")
    golden = {"model": "first", "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
    before = by_engine(ranks, "vllm:request_success_total")
    answers = await posted(ranks, *[("/v1/completions", golden)] * 12)
    assert {answer.json()["choices"][0]["text"] for answer in answers} == {adapter[1]}
    after = by_engine(ranks, "vllm:request_success_total")
    assert {rank: after[rank] - before[rank] > 0 for rank in after} == {"0": True, "1": True}


@pytest.mark.slow
async def test_both_ranks_read_labels_and_have_their_slots(ranks: Server) -> None:
    alone = ranks.post("/v1/classify", {"model": "tiny"} | LABELS).json()["data"]
    answers = await posted(ranks, *[("/v1/classify", {"model": "tiny"} | LABELS)] * READS)
    for answer in answers:
        for found, expected in zip(answer.json()["data"], alone, strict=True):
            assert found["probs"] == pytest.approx(expected["probs"], abs=1e-5)
    assert ranks.metric("inference_admission_limit") == 8


def test_an_engine_that_loses_labels_beside_drafts_is_found_out(tiny_folder: Path) -> None:
    settings = Settings(
        model=ModelSettings(name="tiny", path=tiny_folder),
        engine=ENGINE
        | {"dtype": "float32", "max_num_seqs": 4, "speculative_config": DRAFTS, "client": "stock"},
    )
    config = engine_config(parse_engine_arguments(settings))

    async def found() -> tuple[bool, bool]:
        llm = await start_llm(Choice("stock"), config)
        try:
            before = await reads_labels(llm)
            await llm.collective_rpc("keep_rows_apart")
            return before, await reads_labels(llm)
        finally:
            await stop_llm(llm)

    # vLLM's own sampler loses them, and the service's repair keeps them.
    assert asyncio.run(found()) == (False, True)
