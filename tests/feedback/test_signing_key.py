"""Keys of answers' ids: shared by replicas, or a replica's own."""

from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.feedback.signing_key import FILE, kept_key, replica_mark, shared_key
from service.settings.feedback import FeedbackSettings

SECRET = "s" * 40


def test_a_shared_key_is_the_same_in_a_file_and_in_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\r\n")
    in_file = shared_key(FeedbackSettings(key_file=file))
    assert in_file == shared_key(FeedbackSettings.model_validate({"key": SECRET}))
    assert in_file == SECRET.encode()
    assert shared_key(FeedbackSettings()) is None


@pytest.mark.parametrize(
    ("content", "found"), [(b"k" * 31 + b"\n", "got 31"), (b"k" * 5000, "got more"), (b"", "got 0")]
)
def test_a_file_that_holds_no_key_ends_the_start(
    tmp_path: Path, content: bytes, found: str
) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"feedback.key_file: .*{found}"):
        shared_key(FeedbackSettings(key_file=tmp_path / "key"))


def test_a_file_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigurationError, match=r"feedback\.key_file"):
            shared_key(FeedbackSettings(key_file=path))


def test_replicas_have_marks_of_their_own_that_stay(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    mark = replica_mark(kept_key(tmp_path))
    assert mark == replica_mark(kept_key(tmp_path))
    assert mark != replica_mark(kept_key(tmp_path / "b"))


def test_the_key_in_a_folder_stays(tmp_path: Path) -> None:
    key = kept_key(tmp_path)
    assert kept_key(tmp_path) == key
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert kept_key(None) != kept_key(None)


def test_a_key_that_was_cut_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="a key of 32 bytes, got 5"):
        kept_key(tmp_path)
