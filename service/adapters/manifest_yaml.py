"""adapter.yaml as text: strict reading with precise refusals, and writing.

Scalars follow YAML 1.2's core schema, not PyYAML's 1.1: a label called `no` or `on` is text, a
date is text, `1e-3` is a number. Aliases and repeated keys are refused.
"""

import json
import stat
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from service.adapters.formats import AdapterRefused
from service.adapters.manifest import (
    MANIFEST,
    MANIFEST_FILE,
    ClassificationManifest,
    GenerationManifest,
    Manifest,
)
from service.common.files import write_atomically
from service.common.plain_yaml import PlainDumper, PlainLoader
from service.sources.reference import refuse_invalid

MAX_MANIFEST_BYTES = 64 << 10
_MAX_DEPTH = 16


class _Dumper(PlainDumper):
    def represent_sequence(
        self, tag: str, sequence: Iterable[Any], flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        """Numbers stand in one line: a fingerprint is hundreds of them."""
        items = list(sequence)
        numbers = all(isinstance(item, int | float) for item in items)
        return super().represent_sequence(tag, items, flow_style=numbers or flow_style)


def load_manifest(folder: Path) -> Manifest:
    """Read `adapter.yaml` of an adapter's folder; raises AdapterRefused."""
    return parse_manifest(read_manifest(folder), source=folder.name)


def read_manifest(folder: Path) -> bytes:
    """Return the bytes of `adapter.yaml`, at most one over the limit; raises AdapterRefused.

    Only a regular file is read: through a symlink an error message could quote another file, and
    reading a named pipe would block.
    """
    path, refuse = folder / MANIFEST_FILE, partial(AdapterRefused, folder.name, MANIFEST_FILE)
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise refuse("is not a file", "a regular file", "a link or pipe")
        with path.open("rb") as file:
            return file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise refuse("cannot be read", "a file", error.strerror) from error


def parse_manifest(raw: bytes, *, source: str) -> Manifest:
    """Parse the bytes of an adapter.yaml.

    `source` names the adapter in messages as long as its own name is unknown. Raises AdapterRefused
    naming the field, the expected and the found value, and the nearest valid key.
    """
    refuse = partial(AdapterRefused, source, MANIFEST_FILE)
    if len(raw) > MAX_MANIFEST_BYTES:
        raise refuse("is too large", f"at most {MAX_MANIFEST_BYTES} bytes", "more")
    try:
        _check_events(raw)
        document = yaml.load(raw, Loader=PlainLoader)  # a subclass of SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        found = " ".join(str(error).split()) or type(error).__name__
        raise refuse("is not plain YAML", "one document", found) from error
    return build_manifest(document, source=source)


def build_manifest(document: object, *, source: str) -> Manifest:
    """Validate a manifest given as plain data; raises AdapterRefused like parse_manifest."""
    if not isinstance(document, dict):
        found = type(document).__name__
        raise AdapterRefused(source, MANIFEST_FILE, "is not a mapping", "a mapping", found)
    name = document.get("name")
    adapter = name if isinstance(name, str) and name else source
    refuse = partial(AdapterRefused, adapter, MANIFEST_FILE)
    try:
        # Through JSON: it is strict about types and still takes a list for a tuple.
        return MANIFEST.validate_json(json.dumps(document, allow_nan=False))
    except ValidationError as error:
        generates = document.get("task") == "generation"
        schema = GenerationManifest if generates else ClassificationManifest
        # The task leads the place of each problem in a manifest.
        raise refuse_invalid(refuse, error, schema, root=1) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise refuse("holds a value JSON cannot hold", "text or numbers", error) from error


def dump_manifest(manifest: Manifest) -> str:
    """Return the YAML text that parse_manifest reads back as an equal manifest."""
    document = manifest.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    order = ["schema", "name", "version", "license", "base_model", "base_license", "task", "files"]
    first = {key: document.pop(key) for key in [*order, "prompt"] if key in document}
    order = ["guard", "reference", "confidence", "fingerprint"]
    last = {key: document.pop(key) for key in order if key in document}
    return yaml.dump(
        first | document | last, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `adapter.yaml` atomically."""
    write_atomically(folder / MANIFEST_FILE, dump_manifest(manifest).encode())


def _check_events(raw: bytes) -> None:
    """Refuse YAML that could cost more than its length, before any object is built.

    Aliases can grow a small file without bound, nesting costs PyYAML the square of its depth, and
    tags choose constructors; no manifest needs them.
    """
    depth = 0
    for event in yaml.parse(raw, Loader=PlainLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias is not allowed: {event.start_mark}")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"a tag is not allowed: {event.start_mark}")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {_MAX_DEPTH}: {event.start_mark}")


def list_adapters(root: Path) -> dict[str, Manifest | AdapterRefused]:
    """The manifest, or its refusal, of every folder directly below `root` that has an adapter.yaml.

    They are sorted by the folders' names.
    """
    found: dict[str, Manifest | AdapterRefused] = {}
    for path in sorted(root.glob(f"*/{MANIFEST_FILE}")):
        try:
            found[path.parent.name] = load_manifest(path.parent)
        except AdapterRefused as error:
            found[path.parent.name] = error
    return found
