"""What is kept of the questions that were asked lately."""

from pathlib import Path

from service.adapters.decisions import AskingRecord
from service.adapters.manifest import WEIGHTS_FILE
from service.classification.classifier import CONTENT_FREE
from service.engine.contract import Adapter
from service.plugins.decisions.asking import QuestionWriter
from service.plugins.decisions.body import Choice, Option
from service.plugins.decisions.wording import wordings
from tests.fake_engines import fake_engine

QUESTION = Choice(
    type="choice", instructions="Which?", choices=[Option(value="a"), Option(value="b")]
)
(WORDING,) = wordings(QUESTION, AskingRecord())


async def test_another_version_of_an_adapter_has_a_prior_of_its_own(tmp_path: Path) -> None:
    engine, _ = fake_engine()
    writer = QuestionWriter(engine)
    versions = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / WEIGHTS_FILE).write_bytes(bytes([number]))
        versions.append(Adapter("same", number, str(folder), f"{number:064}"))
    first, second = [await writer.log_prior(WORDING, each) for each in versions]
    assert first.tolist() != second.tolist()
    read = engine.raw.starts
    assert (await writer.log_prior(WORDING, versions[0])).tolist() == first.tolist()
    assert engine.raw.starts == read == 2 * len(CONTENT_FREE)
