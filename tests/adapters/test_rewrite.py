"""Change of a packed head's manifest: still verified, and read as it was written."""

from pathlib import Path

import pytest

from evaluation.commands.head_rewrite import rewrite_manifest
from service.adapters.formats import GuardBound
from service.adapters.heads import HeadRefused, load_manifest, verified_head
from service.models.encoder import read_encoder
from service.models.file_list import LIST_FILE, read_file_list
from tests.adapters.packed import packed_head

BOUND = GuardBound(labels=("sports",), threshold=0.123456789, alpha=0.01, confidence=0.95, lines=9)


async def test_the_folder_is_whole_with_another_manifest(tmp_path: Path) -> None:
    head = await packed_head(tmp_path / "head")
    before = read_file_list(tmp_path / "head")
    rewrite_manifest(tmp_path / "head", head.model_copy(update={"guard": BOUND}))
    found = verified_head(tmp_path / "head", read_encoder(tmp_path / "head"))
    assert found is not None
    assert found.guard == BOUND
    assert found.guard_threshold == (("sports",), 0.123456789)
    after = read_file_list(tmp_path / "head")
    assert before is not None
    assert after is not None
    assert after.digest != before.digest
    assert after.source == before.source


async def test_a_label_of_another_head_is_refused(tmp_path: Path) -> None:
    bound = BOUND.model_dump() | {"labels": ["spam"]}
    with pytest.raises(HeadRefused, match=r"guard\.labels: must be labels of the head, got spam"):
        await packed_head(tmp_path / "head", guard=bound)
    (tmp_path / "head" / LIST_FILE).unlink()
    (tmp_path / "head" / "head.json").unlink()
    assert load_manifest(tmp_path / "head") is None
