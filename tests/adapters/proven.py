"""Adapters that pass their proof on the fake engine, whose answers depend on the weights."""

import asyncio
import itertools
import json
from pathlib import Path

from service.adapters.classifier import build_classifier
from service.adapters.manifest import ClassificationManifest
from service.adapters.manifest_yaml import load_manifest
from service.classification.result import classify_one
from service.engine.contract import Adapter
from service.models.base_model import ServedBase, read_base_model
from tests.adapters.samples import AdapterFolder
from tests.fake_engines import fake_engine
from tests.live_service import MODEL
from training.fingerprints import adapter_fingerprint

INPUTS = ("good", "bad", "so so", "fine")
ASKED = 2 * len(INPUTS)
"""Requests of an adapter that its proof takes: its golden examples and its fingerprint's reads."""


def served_base(folder: Path) -> ServedBase:
    """The base as the live service serves it."""
    return read_base_model(folder, name=MODEL, max_rank=8)


async def proven(
    folder: Path,
    base: ServedBase,
    *,
    name: str = "sentiment",
    version: str = "1.0.0",
    seed: int = 0,
) -> AdapterFolder:
    """A classification adapter that proves itself on the fake engine; `seed` makes its weights."""
    adapter = AdapterFolder(folder, base, seed=seed)
    adapter.manifest |= {"name": name, "version": version}
    adapter.save()
    adapter.golden = []
    for text in itertools.chain(INPUTS, map(str, itertools.count())):
        label = await best_label(folder, text)
        if label != await best_label(folder, text, of_base=True):
            adapter.golden.append({"input": text, "label": label})
        if len(adapter.golden) == len(INPUTS):
            return await fingerprinted(adapter.save())
    raise AssertionError("unreachable")


async def fingerprinted(adapter: AdapterFolder) -> AdapterFolder:
    """Give a saved adapter the fingerprint that it shows on the fake engine."""
    engine, _ = fake_engine()
    manifest = load_manifest(adapter.path)
    loaded = Adapter(manifest.name, 1, str(adapter.path), manifest.digest)
    await engine.load_adapter(loaded)
    found = await adapter_fingerprint(engine, loaded, manifest, 30)
    adapter.manifest["fingerprint"] = [read.model_dump(mode="json") for read in found]
    return adapter.write_manifest()


async def best_label(folder: Path, text: str, *, of_base: bool = False) -> str:
    """Answer of the fake engine to a text with the folder's weights, or with none."""
    engine, _ = fake_engine()
    manifest = load_manifest(folder)
    assert isinstance(manifest, ClassificationManifest)
    adapter = Adapter(manifest.name, 1, str(folder), manifest.digest)
    await engine.load_adapter(adapter)
    classifier = build_classifier(engine, None if of_base else adapter, manifest)
    return (await classify_one(classifier, text, asyncio.Semaphore(1))).scores[0].label


def failing(adapter: AdapterFolder) -> AdapterFolder:
    """Replace every golden answer by the wrong one: the adapter verifies but fails its proof."""
    other = {"positive": "negative", "negative": "positive"}
    for example in adapter.golden:
        example["label"] = other[str(example["label"])]
    return adapter.save()


def sources(*folders: Path) -> list[dict[str, object]]:
    """The `adapters` section for these folders."""
    return [json.loads(json.dumps({"source": str(folder)})) for folder in folders]
