"""The fake engine: the contract of engines, and the features that only the fake has."""

from pathlib import Path

import pytest

from service.adapters.manifest import WEIGHTS_FILE
from service.engine.contract import Adapter, Sampling, Structure
from service.errors import ConfigurationError, EngineDead, UnsupportedFeature
from tests.engine.contract import CONTRACT, STORY, Check, answers, uphold
from tests.fake_engines import fake_engine


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_the_fake_upholds_the_contract(check: Check) -> None:
    # Paced, so that an answer is still running when it is closed, cancelled or late.
    engine, admission = fake_engine(token_seconds=0.0005)
    await uphold(check, engine, admission)
    assert engine.raw.running == 0


@pytest.mark.parametrize("structure", [Structure(regex="a"), Structure(json_schema={})])
async def test_what_needs_a_grammar_is_refused_by_name(structure: Structure) -> None:
    engine, _ = fake_engine()
    prompt = await engine.render(STORY)
    with pytest.raises(UnsupportedFeature, match="response_format"):
        await answers(engine, prompt, Sampling(max_tokens=1, structure=structure))


async def test_an_adapter_answers_otherwise_than_the_base(tmp_path: Path) -> None:
    engine, _ = fake_engine()
    (tmp_path / WEIGHTS_FILE).write_bytes(b"weights")
    adapter = Adapter("mine", 1, str(tmp_path), "sha256:0")
    await engine.load_adapter(adapter)
    prompt = await engine.render(STORY)
    greedy = Sampling(max_tokens=8, temperature=0.0)
    assert await answers(engine, prompt, greedy) != await answers(engine, prompt, greedy, adapter)


async def test_an_adapter_keeps_its_id(tmp_path: Path) -> None:
    engine, _ = fake_engine()
    (tmp_path / WEIGHTS_FILE).write_bytes(b"weights")
    await engine.load_adapter(Adapter("mine", 1, str(tmp_path), "sha256:0"))
    await engine.load_adapter(Adapter("mine", 1, str(tmp_path), "sha256:0"))
    with pytest.raises(ConfigurationError, match="its id belongs to 'mine'"):
        await engine.load_adapter(Adapter("other", 1, str(tmp_path), "sha256:0"))


async def test_a_stopped_engine_is_dead() -> None:
    engine, admission = fake_engine()
    prompt = await engine.render(STORY)
    await engine.stop()
    with pytest.raises(EngineDead):
        await engine.check()
    with pytest.raises(EngineDead):
        await answers(engine, prompt, Sampling(max_tokens=1))
    assert admission.in_flight == 0
