"""Packing on an engine: the adapter gets its fingerprint and is proven before it is written."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from service.adapters.pack import check_draft, write_manifest
from service.adapters.proof import Proof, fingerprint_of, prove
from service.adapters.verify import VerifiedAdapter
from service.engine.protocol import Adapter, AdapterHost
from service.engine.roles import AdaptedDecoder
from service.models.base_model import ServedBase


async def pack_proven(
    engine: AdaptedDecoder,
    folder: Path,
    base: ServedBase,
    draft: Mapping[str, object],
    timeout_s: float,
    *,
    engine_id: int = 1,
    overwrite: bool = False,
) -> tuple[VerifiedAdapter, Proof]:
    """Write `adapter.yaml` with the fingerprint taken on this engine.

    Checks the draft as `check_draft` does; then fingerprint and proof may take `timeout_s` each.
    Raises AdapterRefused before it writes, and EngineDead when the engine ends.
    """
    checked = await asyncio.to_thread(check_draft, folder, base, draft, overwrite=overwrite)
    manifest = checked.manifest
    adapter = Adapter(manifest.name, engine_id, str(folder), manifest.digest)
    async with loaded(engine, adapter):
        fingerprint = await fingerprint_of(engine, adapter, manifest, timeout_s)
        manifest = manifest.model_copy(update={"fingerprint": fingerprint})
        proof = await prove(engine, adapter, manifest, timeout_s)
    assert proof is not None
    write_manifest(folder, manifest)
    return replace(checked, manifest=manifest), proof


@asynccontextmanager
async def loaded(engine: AdapterHost, adapter: Adapter) -> AsyncIterator[None]:
    """Load an adapter for the time of a block."""
    await engine.load_adapter(adapter)
    try:
        yield
    finally:
        await engine.unload_adapter(adapter)
