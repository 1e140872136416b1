"""The time that structures take in the engine's steps, with its own schedulers and grammars.

There is no model: a token is chosen among those that the mask allows.
"""

import logging
import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, FinishReason
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from service.admission.admitted import Rank
from service.engine.contract import Job, Sampling
from service.errors import ConfigurationError
from service.settings.tree import ModelSettings, Settings
from service.vllm.arguments import parse_engine_arguments, with_budget
from service.vllm.conversion import OutputReader
from service.vllm.patches import mask_budget
from service.vllm.patches.mask_budget import DEAD_END, SECONDS, SECTION, TOO_DEAR, expect
from tests.engine.test_paced_scheduler import Steps, config_of

WORDS = 'root ::= [a-z]+ "."'


class Engine(Steps):
    """A scheduler with requests that have a grammar."""

    def add_structured(
        self, name: str, grammar: str = WORDS, *, expected: float = 0.0, salt: str = ""
    ) -> None:
        """Let a request come that asks for a structure, which is compiled at once."""
        structure = StructuredOutputsParams(grammar=grammar)
        structure._backend = "xgrammar"
        params = SamplingParams(max_tokens=100, structured_outputs=structure)
        expect(params, expected)
        request = Request(
            name, [7] * 4, params, None, arrival_time=float(next(self._serial)), cache_salt=salt
        )
        manager = self.scheduler.structured_output_manager
        manager.grammar_init(request)
        assert request.structured_output_request is not None
        request.structured_output_request._grammar.result()
        self.scheduler.add_request(request)

    def answer(self, override: Mapping[str, int] = {}) -> dict[str, EngineCoreOutput]:
        """Make a step; the outputs of the requests that got one. `override` chooses tokens."""
        planned = self.scheduler.schedule()
        tokens = list(planned.num_scheduled_tokens)
        masks = self.scheduler.get_grammar_bitmask(planned)
        chosen = dict.fromkeys(tokens, 7)
        if masks is not None:
            for row, name in zip(
                masks.grammar_bitmask, masks.structured_output_request_ids, strict=True
            ):
                bits = numpy.unpackbits(row.view(numpy.uint8), bitorder="little")
                chosen[name] = int(bits.argmax())
        chosen |= override
        made = self.scheduler.update_from_output(
            planned,
            ModelRunnerOutput(
                tokens,
                {name: place for place, name in enumerate(tokens)},
                [[chosen[name]] for name in tokens],
            ),
        )
        return {each.request_id: each for step in made.values() for each in step.outputs}


@pytest.fixture(params=["PacedScheduler", "BudgetScheduler", "AsyncBudgetScheduler"])
def config(request: pytest.FixtureRequest, tiny_folder: Path) -> Any:
    config = config_of(tiny_folder)
    if request.param != "PacedScheduler":
        config.scheduler_config.scheduler_cls = None
        config.scheduler_config.async_scheduling = request.param == "AsyncBudgetScheduler"
        with_budget(config)
    assert config.scheduler_config.get_scheduler_cls().__name__ == request.param
    return config


@pytest.fixture
def engine(config: Any) -> Engine:
    return Engine(config)


def test_dear_masks_take_turns_and_other_requests_go_on(engine: Engine) -> None:
    engine.add("plain", Rank.WITHIN_SHARE, 4)
    for number in range(8):
        engine.add_structured(f"dear-{number}", expected=0.02)
    served: list[str] = []
    for _ in range(6):
        outputs = engine.answer()
        assert outputs.pop("plain").new_token_ids == [7]
        assert len(outputs) == 3  # of 0.02 s each, in a step's 0.06
        served += outputs
    assert {served.count(f"dear-{number}") for number in range(8)} == {2, 3}


def test_one_dear_mask_is_always_found(engine: Engine) -> None:
    engine.add_structured("dear", expected=1.0)
    engine.add_structured("too", expected=1.0)
    assert [list(engine.answer()) for _ in range(2)] == [["dear"], ["too"]]


def test_ordinary_structures_are_not_kept_apart(engine: Engine) -> None:
    names = {f"word-{number}" for number in range(40)}
    for name in names:
        engine.add_structured(name, expected=0.003)
    for _ in range(3):
        assert engine.answer().keys() == names


def test_a_request_ends_when_its_masks_took_too_long(config: Any) -> None:
    config.additional_config[SECTION]["masks"] = 0.0
    engine = Engine(config)
    engine.add("plain", Rank.WITHIN_SHARE, 4)
    engine.add_structured("dear")
    outputs = engine.answer()
    ended = outputs["dear"]
    assert (ended.finish_reason, ended.stop_reason) == (FinishReason.ERROR, TOO_DEAR)
    assert ended.new_token_ids == []
    assert outputs["plain"].finish_reason is None
    assert list(engine.answer()) == ["plain"]


def test_all_requests_of_a_structure_end_with_one_dear_mask(config: Any) -> None:
    config.additional_config[SECTION]["mask"] = 0.0
    engine = Engine(config)
    engine.add_structured("first")
    engine.add_structured("second")
    outputs = engine.answer()
    assert {each.stop_reason for each in outputs.values()} == {TOO_DEAR}
    assert outputs.keys() == {"first", "second"}
    assert engine.answer() == {}


def test_an_empty_mask_ends_the_request_before_a_token_is_taken(engine: Engine) -> None:
    engine.add_structured("dead", 'root ::= "a" [^\\u0000-\\U0010ffff]')
    engine.add_structured("alive")
    first, second = engine.answer(), engine.answer()
    assert first["dead"].finish_reason is None
    ended = second["dead"]
    assert (ended.finish_reason, ended.stop_reason) == (FinishReason.ERROR, DEAD_END)
    assert ended.new_token_ids == []
    assert second["alive"].finish_reason is None


def test_equal_structures_are_compiled_once_for_all_tenants(engine: Engine) -> None:
    """As SECURITY.md says: the time of the first use tells whether another tenant was first."""

    def held() -> int:
        backend = engine.scheduler.structured_output_manager.backend
        return int(backend.compiler.get_cache_size_bytes())

    engine.add_structured("a's", 'root ::= "a"', salt="a")
    first = held()
    engine.add_structured("b's", 'root ::= "a"', salt="b")
    assert held() == first > 0
    engine.add_structured("another", 'root ::= "b"', salt="b")
    assert held() > first


def test_a_token_that_the_grammar_rejects_is_not_logged(engine: Engine) -> None:
    told: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = told.append  # type: ignore[assignment, method-assign]
    for name in mask_budget._LOGGED:
        logging.getLogger(name).addHandler(handler)
    engine.add_structured("word")
    ended = engine.answer(override={"word": 0})["word"]
    assert (ended.finish_reason, ended.stop_reason) == (FinishReason.ERROR, None)
    logging.getLogger("vllm.v1.core.sched.scheduler").error("Another")
    assert [record.msg for record in told] == ["Another"]
    for name in mask_budget._LOGGED:
        logging.getLogger(name).removeHandler(handler)


def test_compiling_gives_way_to_steps(engine: Engine) -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    compiling = engine.scheduler.structured_output_manager.executor
    assert compiling.submit(priority).result() == min(priority() + 10, 19)


def test_the_time_of_masks_comes_with_outputs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.add("plain", Rank.WITHIN_SHARE, 4)
    engine.add_structured("word")
    assert engine.answer()["word"].kv_transfer_params is None  # too little to report
    monkeypatch.setattr(mask_budget, "_REPORTED_SECONDS", 0.0)
    outputs = engine.answer()
    assert 0 < outputs["word"].kv_transfer_params[SECONDS] < 1
    assert outputs["plain"].kv_transfer_params is None


def test_the_time_of_masks_is_told_to_admission_and_to_nobody_else() -> None:
    reader = OutputReader(Job([7], Sampling(max_tokens=1)), Counter())
    plain = reader.read(RequestOutput("name", None, [7], None, [], False))
    for told, seconds in (({SECONDS: 0.25, "other": 1}, 0.25), ({"other": 1}, 0)):
        item = RequestOutput("name", None, [7], None, [], False, kv_transfer_params=told)
        assert reader.read(item) == replace(plain, mask_seconds=seconds)


def test_only_dear_structures_are_told_to_the_engine() -> None:
    params = SamplingParams(extra_args={"a": 1})
    expect(params, 0.001)
    assert params.extra_args == {"a": 1}
    expect(params, 0.01)
    assert params.extra_args == {"a": 1, SECONDS: 0.01}


def test_the_limits_come_beside_other_additions(tiny_folder: Path) -> None:
    model = ModelSettings(name="tiny", path=tiny_folder)
    engine = {"additional_config": {"other": 1}}
    settings = Settings(model=model, engine=engine, preparation={"mask_ms": 7, "structure_ms": 90})
    arguments = parse_engine_arguments(settings)
    assert arguments.additional_config == {"other": 1, SECTION: {"mask": 0.007, "masks": 0.09}}
    wrong = settings.model_copy(update={"engine": {"additional_config": "x"}})
    with pytest.raises(ConfigurationError, match="additional_config: must be a mapping"):
        parse_engine_arguments(wrong)


def test_a_scheduler_of_the_configurations_own_stays(config: Any) -> None:
    config.scheduler_config.scheduler_cls = Scheduler
    assert with_budget(config).scheduler_config.get_scheduler_cls() is Scheduler
