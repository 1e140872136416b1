"""Sums of feedback survive a restart, and a file that is none is told of."""

import json
import logging
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.plugins.rollouts import feedback_ledger as module
from service.plugins.rollouts.feedback_ledger import (
    FILE,
    FeedbackLedger,
    Rating,
    Version,
    read_tallies,
)
from tests.plugins.rollouts.test_seen_ids import answer

VERSION = Version("sentiment", "1.0.0")


def test_what_was_counted_is_there_after_a_restart(tmp_path: Path) -> None:
    ledger = FeedbackLedger(tmp_path)
    assert ledger.collect() is None
    ledger.tally(VERSION).add(None, Rating(0.25))
    assert ledger.seen.add("ann", answer(10), 20)
    content = ledger.collect()
    assert content is not None
    ledger.write(content)
    assert ledger.collect() is None
    again = FeedbackLedger(tmp_path)
    assert again.tallies == ledger.tallies == read_tallies(tmp_path)
    assert not again.seen.add("ann", answer(10), 20)


def test_sums_of_the_form_before_are_kept(tmp_path: Path) -> None:
    tallies = [[*VERSION, {"rated": 2, "right": 1.0}]]
    seen = {"floor": 0, "ids": [[10, "n"]]}
    (tmp_path / FILE).write_text(json.dumps({"tallies": tallies, "seen": seen}))
    assert FeedbackLedger(tmp_path).tallies[VERSION].accuracy == 0.5


def test_what_could_not_be_written_is_collected_again(tmp_path: Path) -> None:
    ledger = FeedbackLedger(tmp_path / "gone")
    ledger.tally(VERSION)
    content = ledger.collect()
    assert content is not None
    with pytest.raises(OSError, match="gone"):
        ledger.write(content)
    assert ledger.collect() == content


def test_the_version_that_was_rated_first_leaves_a_full_ledger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_VERSIONS", 2)
    ledger = FeedbackLedger(None)
    for number in ("1", "2", "1", "3"):
        ledger.tally(Version("a", number))
    assert [version for _, version in ledger.tallies] == ["2", "3"]
    assert ledger.collect() is None


def test_a_file_that_is_none_counts_anew_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_text('{"tallies": [["a"]]}')
    with caplog.at_level(logging.WARNING):
        assert FeedbackLedger(tmp_path).tallies == {}
    assert "feedback counts anew" in caplog.text
    with pytest.raises(ConfigurationError, match="not a file of feedback"):
        read_tallies(tmp_path)
    (tmp_path / FILE).unlink()
    assert read_tallies(tmp_path) == {}
    with pytest.raises(ConfigurationError, match="none: there is no such folder"):
        read_tallies(tmp_path / "none")
