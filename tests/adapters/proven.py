"""Adapters whose golden examples are what the fake engine answers with their weights."""

import json
from pathlib import Path

from service.adapters.base_model import BaseModel, read_base_model
from service.adapters.manifest import ClassificationManifest
from service.adapters.manifest_yaml import load_manifest
from service.classification.adapter_classifier import AdapterClassifier
from service.engine.protocol import Adapter
from tests.adapters.samples import AdapterFolder
from tests.fake_engines import fake_engine
from tests.live_service import MODEL

INPUTS = ("good", "bad", "so so", "fine")


def served_base(folder: Path) -> BaseModel:
    """The base as the live service serves it."""
    return read_base_model(folder, name=MODEL, max_rank=8)


async def proven(
    folder: Path, base: BaseModel, *, name: str = "sentiment", version: str = "1.0.0", seed: int = 0
) -> AdapterFolder:
    """A classification adapter that proves itself on the fake engine; `seed` makes its weights."""
    adapter = AdapterFolder(folder, base, seed=seed)
    adapter.manifest |= {"name": name, "version": version}
    adapter.save()
    answers = [await best_label(folder, text) for text in INPUTS]
    adapter.golden = [
        {"input": text, "label": label} for text, label in zip(INPUTS, answers, strict=True)
    ]
    return adapter.save()


async def best_label(folder: Path, text: str) -> str:
    """What the fake engine says of a text with the folder's weights."""
    engine, _ = fake_engine()
    manifest = load_manifest(folder)
    assert isinstance(manifest, ClassificationManifest)
    adapter = Adapter(manifest.name, 1, str(folder), manifest.digest)
    await engine.load_adapter(adapter)
    return (await AdapterClassifier(engine, adapter, manifest).classify(text)).scores[0].label


def failing(adapter: AdapterFolder) -> AdapterFolder:
    """Turn every golden answer round: the adapter verifies and cannot be proven."""
    other = {"positive": "negative", "negative": "positive"}
    for example in adapter.golden:
        example["label"] = other[str(example["label"])]
    return adapter.save()


def sources(*folders: Path) -> list[dict[str, object]]:
    """The `adapters` section for these folders."""
    return [json.loads(json.dumps({"source": str(folder)})) for folder in folders]
