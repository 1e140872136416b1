"""The log: its chain shows every change to it, and a crash leaves a log that can be read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.plugins.rollouts.log import FILE, FIRST, Change, ChangeLog, Event, read_log


def change(after: str, before: str | None = None) -> Change:
    return Change("sentiment", Event.CONFIGURED, "configuration", before, after)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    log = ChangeLog(tmp_path)
    for after, before in (("a", None), ("b", "a"), ("c", "b")):
        log.append(change(after, before))
    log.close()
    return tmp_path


def test_a_log_is_read_as_it_was_written(folder: Path) -> None:
    changes, head = read_log(folder)
    assert [(each.number, each.before, each.after) for each in changes] == [
        (1, None, "a"),
        (2, "a", "b"),
        (3, "b", "c"),
    ]
    log = ChangeLog(folder)
    assert (log.changes, log.head) == (changes, head)
    log.append(change("d", "c"))
    log.close()
    assert len(read_log(folder)[0]) == 4


def _edited(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"after": "b"', b'"after": "x"'), lines[2]]


def _forged(lines: list[bytes]) -> list[bytes]:
    first = json.loads(lines[0]) | {"number": 2}
    return [lines[0], json.dumps(first).encode() + b"\n", *lines[1:]]


BROKEN: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "edited": (_edited, "line 3: its `previous` is not"),
    "removed": (lambda lines: [lines[0], lines[2]], "line 2: its `previous` is not"),
    "first removed": (lambda lines: lines[1:], "line 1: its `previous` is not"),
    "exchanged": (lambda lines: [lines[1], lines[0], lines[2]], "line 1: its `previous` is not"),
    "inserted": (_forged, "line 2: its `previous` is not"),
    "no JSON": (lambda lines: [lines[0], b"{}\n", lines[2]], "line 2: it is not a change"),
}


@pytest.mark.parametrize(("breaks", "message"), BROKEN.values(), ids=BROKEN)
def test_a_log_that_was_changed_ends_the_start_and_names_the_line(
    folder: Path, breaks: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    file = folder / FILE
    file.write_bytes(b"".join(breaks(file.read_bytes().splitlines(keepends=True))))
    for read in (ChangeLog, read_log):
        with pytest.raises(ConfigurationError, match=f"{FILE}: {message}"):
            read(folder)


def test_a_line_that_a_crash_cut_is_dropped(folder: Path) -> None:
    file = folder / FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    assert len(read_log(folder)[0]) == 2
    log = ChangeLog(folder)
    assert len(log.changes) == 2
    log.append(change("c", "b"))
    log.close()
    assert [each.after for each in read_log(folder)[0]] == ["a", "b", "c"]


def test_a_second_process_is_refused(folder: Path) -> None:
    log = ChangeLog(folder)
    with pytest.raises(ConfigurationError, match="another process has the log open"):
        ChangeLog(folder)
    log.close()
    ChangeLog(folder).close()


def test_an_empty_log_begins_with_zeros(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path)
    assert (log.changes, log.head) == ([], FIRST)
    log.append(change("a"))
    log.close()
    assert json.loads((tmp_path / FILE).read_text())["previous"] == FIRST


def test_a_folder_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"changes\.jsonl: No such file"):
        read_log(tmp_path)
