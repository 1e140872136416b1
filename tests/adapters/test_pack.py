from pathlib import Path
from typing import Any

import pytest

from service.adapters.formats import AdapterRefused
from service.adapters.manifest_yaml import list_adapters, load_manifest
from service.adapters.verify import verify
from service.common.files import write_atomically
from service.models.base_model import ServedBase
from tests.adapters.samples import AdapterFolder
from training.packing import pack


def draft(adapter: AdapterFolder) -> dict[str, Any]:
    filled = ("schema", "base_model", "files")
    return {key: value for key, value in adapter.manifest.items() if key not in filled}


@pytest.fixture
def plain(adapter: AdapterFolder) -> AdapterFolder:
    """The adapter as training leaves it: without a manifest."""
    adapter.save()
    (adapter.path / "adapter.yaml").unlink()
    return adapter


def test_a_packed_folder_verifies(plain: AdapterFolder, base: ServedBase) -> None:
    packed = pack(plain.path, base, draft(plain))

    assert verify(plain.path, base) == packed
    assert packed.manifest.base_model.digest == base.digest
    assert set(packed.manifest.files) == {path.name for path in plain.path.iterdir()} - {
        "adapter.yaml"
    }


def test_packing_again_gives_the_same_digest(plain: AdapterFolder, base: ServedBase) -> None:
    first = pack(plain.path, base, draft(plain))
    again = pack(plain.path, base, draft(plain), overwrite=True)

    assert first.digest == again.digest


def test_an_existing_manifest_is_kept(adapter: AdapterFolder, base: ServedBase) -> None:
    before = (adapter.save().path / "adapter.yaml").read_bytes()

    with pytest.raises(AdapterRefused, match=r"adapter\.yaml: exists"):
        pack(adapter.path, base, draft(adapter))
    assert (adapter.path / "adapter.yaml").read_bytes() == before


@pytest.mark.parametrize("field", ["schema", "base_model", "files"])
def test_a_draft_cannot_claim_what_packing_measures(
    plain: AdapterFolder, base: ServedBase, field: str
) -> None:
    with pytest.raises(AdapterRefused, match=f"field {field}: expected no such field, because"):
        pack(plain.path, base, draft(plain) | {field: "x"})


def test_a_refused_adapter_leaves_the_folder_as_it_was(
    plain: AdapterFolder, base: ServedBase
) -> None:
    (plain.path / "training_args.bin").write_bytes(b"pickle")
    before = sorted(plain.path.iterdir())
    with pytest.raises(AdapterRefused, match=r"training_args\.bin: may hold a pickle"):
        pack(plain.path, base, draft(plain))
    assert sorted(plain.path.iterdir()) == before

    (plain.path / "training_args.bin").unlink()
    plain.config["use_dora"] = True
    plain.write_plain()
    with pytest.raises(AdapterRefused, match="use_dora"):
        pack(plain.path, base, draft(plain))
    assert not (plain.path / "adapter.yaml").exists()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_listing_shows_the_readable_and_why_the_others_are_not(
    tmp_path: Path, base: ServedBase
) -> None:
    good = AdapterFolder(tmp_path / "all" / "a", base).save()
    AdapterFolder(tmp_path / "all" / "b", base).save()
    (tmp_path / "all" / "b" / "adapter.yaml").write_text("name: b\n")
    (tmp_path / "all" / "not-an-adapter").mkdir()

    listed = list_adapters(tmp_path / "all")

    assert list(listed) == ["a", "b"]
    assert listed["a"] == load_manifest(good.path)
    assert str(listed["b"]).startswith("adapter b: adapter.yaml: field task")
