"""A base model with weights of 8 bits, and an adapter that was packed for it anew."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from service.models.base_model import read_base_model
from service.settings.section import multiplies_8_bits
from tests.served.configuration import ENGINE
from tests.served.server import PATIENT, Server, running_server
from training.packing import pack
from training.quantise import quantise_model

NAME = "smollm2-135m-instruct"
pytestmark = pytest.mark.skipif(
    not multiplies_8_bits(), reason="this processor has no VNNI: such a model is refused"
)
FILLED = ("schema", "base_model", "files", "fingerprint")


@pytest.fixture(scope="module")
def server(
    smollm2_folder: Path, served_adapters: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("quantised")
    quantise_model(smollm2_folder, root / "model")
    shutil.copytree(served_adapters / "sentiment", root / "sentiment")
    draft = yaml.safe_load((root / "sentiment" / "adapter.yaml").read_text())
    for section in FILLED:
        draft.pop(section, None)
    base = read_base_model(root / "model", name=NAME, max_rank=8)
    pack(root / "sentiment", base, draft, overwrite=True)
    config = PATIENT | {
        "model": {"name": NAME, "path": str(root / "model")},
        "engine": ENGINE | {"max_lora_rank": 8},
        "adapters": [{"source": str(root / "sentiment")}],
    }
    with running_server(root, config) as running:
        yield running


def test_it_answers(server: Server) -> None:
    question = "What is the name of the capital city of Japan?"
    body = {"model": NAME, "messages": [{"role": "user", "content": question}], "temperature": 0}
    answer = server.post("/v1/chat/completions", body).json()
    assert "Tokyo" in answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("text", "label"),
    [("A dull film that never ends.", "negative"), ("A delight from start to end.", "positive")],
)
def test_its_adapter_answers(server: Server, text: str, label: str) -> None:
    body = {"model": "sentiment", "input": text}
    (found,) = server.post("/v1/classify", body).json()["data"]
    assert found["label"] == label
    assert max(found["probs"]) > 0.8
