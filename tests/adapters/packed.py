"""Heads on a tiny random encoder, packed as by `finetune`, and transformers' own answers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from service.adapters.heads import HeadManifest, load_manifest, verify_head
from service.engine.contract import Pooled
from service.engine.pooling import EncoderInfo, Passage
from service.models.encoder import read_encoder
from service.models.file_list import LIST_FILE, pin_folder
from service.models.passages import PassageReader
from tests.served.tiny_encoder import build_tiny_encoder

LABELS = ("sports", "politics", "weather")
INPUTS = ("the team wins the match", "the law passes", "rain and storm", "a good goal", "a vote")


class ReferenceEncoder:
    """A folder's encoder on transformers; implements `engine.pooling.Pooler`."""

    def __init__(self, folder: Path) -> None:
        model, head = read_encoder(folder), verify_head(folder, read_encoder(folder))
        self.info = EncoderInfo(
            folder.name,
            "sha256:x",
            model.task,
            64,
            4,
            len(model.labels),
            labels=model.labels,
            multi_label=model.multi_label,
            temperature=head.calibration.temperature if head else 1.0,
            conformal=head.conformal if head else None,
        )
        self._reader = PassageReader(AutoTokenizer.from_pretrained(folder))
        self._model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    async def read(
        self, text: str, second: str | None = None, *, most: int | None = None
    ) -> Passage:
        return self._reader.read(text, second, most=most)

    def passage(self, token_ids: Sequence[int], *, most: int | None = None) -> Passage:
        return Passage(list(token_ids))

    async def pool(
        self, passage: Passage, dimensions: int | None = None, *, raw: bool = False
    ) -> Pooled:
        ids = torch.tensor([passage.token_ids])
        kinds = torch.zeros_like(ids)
        if passage.second_at is not None:
            kinds[:, passage.second_at :] = 1
        with torch.inference_mode():
            logits = self._model(ids, token_type_ids=kinds).logits[0]
        return Pooled(logits.numpy(), len(passage.token_ids), 0)


async def values_of(folder: Path, texts: Sequence[str]) -> list[list[float]]:
    """The head's values of each text."""
    encoder = ReferenceEncoder(folder)
    pooled = [await encoder.pool(await encoder.read(text)) for text in texts]
    return [[float(value) for value in each.values] for each in pooled]


async def packed_head(folder: Path, *, multi_label: bool = False, **changes: Any) -> HeadManifest:
    """Build a head whose golden examples are what it answers; `changes` are of the manifest."""
    build_tiny_encoder(folder, LABELS, multi_label=multi_label)
    values = await values_of(folder, INPUTS)
    with (folder / "golden.jsonl").open("w") as file:
        for text, row in zip(INPUTS, values, strict=True):
            given: dict[str, Any] = {"label": LABELS[row.index(max(row))]}
            if multi_label:
                given = {"labels": [LABELS[at] for at, value in enumerate(row) if value >= 0]}
            file.write(json.dumps({"input": text} | given) + "\n")
    conformal = None if multi_label else {"coverage": 0.9, "threshold": 0.75}
    document = {
        "schema": 1,
        "name": "topics",
        "version": "1.0.0",
        "base_model": {"name": "tiny", "digest": f"sha256:{'0' * 64}"},
        "labels": LABELS,
        "multi_label": multi_label,
        "calibration": {"temperature": 2.0, "conformal": conformal},
        "golden": {"file": "golden.jsonl", "min_accuracy": 0.9},
        "fingerprint": values,
    }
    (folder / "head.json").write_text(json.dumps(document | changes))
    repacked(folder)
    head = load_manifest(folder)
    assert head is not None
    return head


def repacked(folder: Path) -> None:
    """Write the digests anew, as whoever swaps a file could."""
    (folder / LIST_FILE).unlink(missing_ok=True)
    pin_folder(folder, "topics@1.0.0")
