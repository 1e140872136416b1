"""Ids of answers: read back by their own tenant within a day, and by nobody else; their key."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from service.context import RequestContext, internal_context
from service.context.answer import Answer, FirstText
from service.engine.contract import MAX_LABELS, Adapter
from service.engine.pooling import ConformalSets
from service.errors import ConfigurationError, InvalidRequest, NotFound
from service.plugins.rollouts.answer_ids import (
    FILE,
    AnswerIds,
    ToldLabel,
    ToldSet,
    kept_key,
    replica_mark,
    shared_key,
)
from service.plugins.rollouts.settings import FeedbackSettings
from service.plugins.rollouts.standing import Drawn
from service.tenants.tenant import Tenant

DIGEST = "sha256:" + "ab" * 32
SECRET = "s" * 40
SETS = ConformalSets(0.9, 0.2, 0.123456789)


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def context(text: FirstText | None = None, tenant: str = "ann") -> RequestContext:
    made = internal_context("test", 1.0)
    made.tenant = Tenant(name=tenant)
    made.adapter = Adapter("größe@home", 1, "unused", DIGEST, "1.2.0")
    made.extend(Drawn(7))
    made.extend(Answer(first_text=text))
    return made


def test_an_id_carries_the_version_the_stage_and_the_time(clock: Clock) -> None:
    ids = AnswerIds(b"k" * 32, b"one!", clock)
    given = ids.of(context())
    assert given is not None
    assert given.isascii()
    answer = ids.read(given, "ann")
    assert (answer.adapter, answer.version, answer.stage) == ("größe@home", "1.2.0", 7)
    assert (answer.digest, answer.time, answer.told) == ("ab" * 6, 1_800_000_000, None)


@pytest.mark.parametrize("label_set", [None, (), (0, 3, 99)])
def test_an_id_carries_what_a_classification_told(
    clock: Clock, label_set: tuple[int, ...] | None
) -> None:
    ids = AnswerIds(b"k" * 32, b"one!", clock)
    text = FirstText(("d",), False, 0.91234, 3, label_set, SETS)
    given = ids.of(context(text))
    assert given is not None
    told = None if label_set is None else ToldSet(frozenset(label_set), 0.9, 0.123456789)
    assert ids.read(given, "ann").told == ToldLabel(3, 0.9123, False, told)


def test_another_replica_reads_an_id_but_did_not_judge_its_answer(clock: Clock) -> None:
    given = AnswerIds(b"k" * 32, b"one!", clock).of(context())
    assert given is not None
    answer = AnswerIds(b"k" * 32, b"two!", clock).read(given, "ann")
    assert (answer.adapter, answer.version, answer.stage) == ("größe@home", "1.2.0", 0)


def test_an_id_tells_nothing_of_its_answer(clock: Clock) -> None:
    """Ids of one adapter have one length, whatever its version is and has told."""
    ids, made = AnswerIds(b"k" * 32, b"one!", clock), context()
    texts = [None, FirstText(), FirstText(("d",), False, 0.5, 3, tuple(range(200)), SETS)]
    found = []
    for text in texts:
        made.extend(Answer(first_text=text))
        for version in ("1.2.0", "1.2.0-" + "a" * 58):
            assert made.adapter
            made.adapter = replace(made.adapter, version=version)
            found += [ids.of(made), ids.of(made)]
    lengths, contents = set(), set()
    for each in found:
        assert each is not None
        content = base64.urlsafe_b64decode(each + "==")
        assert b"1.2.0" not in content
        assert b"home" not in content
        lengths.add(len(each))
        contents.add(content[:64])
    assert len(lengths) == 1
    assert len(contents) == len(found)


def test_the_longest_id_is_below_a_kilobyte(clock: Clock) -> None:
    members = range(MAX_LABELS)
    made = context(FirstText(("d",), False, 0.91234, MAX_LABELS - 1, members, SETS))
    made.adapter = Adapter("a" * 128, 1, "unused", DIGEST, "1.2.0-" + "a" * 58)
    made.extend(Drawn(2**31))
    given = AnswerIds(b"k" * 32, b"1234", clock).of(made)
    assert given is not None
    assert len(given) < 1024


def test_two_answers_of_one_second_have_other_ids(clock: Clock) -> None:
    ids = AnswerIds(b"k" * 32, b"one!", clock)
    assert ids.of(context()) != ids.of(context())


def test_an_answer_of_no_adapter_has_no_id(clock: Clock) -> None:
    assert AnswerIds(b"k" * 32, b"one!", clock).of(internal_context("test", 1.0)) is None


def test_whatever_is_changed_it_is_no_id_any_more(clock: Clock) -> None:
    ids = AnswerIds(b"k" * 32, b"one!", clock)
    given = ids.of(context())
    assert given is not None
    for place in range(len(given)):
        changed = given[:place] + ("A" if given[place] != "A" else "B") + given[place + 1 :]
        with pytest.raises(NotFound, match="not the X-Feedback-Id"):
            ids.read(changed, "ann")
    for other in ("", ".", "a.b", "é.é", given[:-1], given[:32], given + "=", "\ud800"):
        with pytest.raises(NotFound):
            ids.read(other, "ann")


def test_the_id_of_another_tenant_or_service_is_none(clock: Clock) -> None:
    ids = AnswerIds(b"k" * 32, b"one!", clock)
    given = ids.of(context())
    assert given is not None
    for reader, tenant in (
        (ids, "bob"),
        (ids, "ann "),
        (AnswerIds(b"l" * 32, b"one!", clock), "ann"),
    ):
        with pytest.raises(NotFound):
            reader.read(given, tenant)


def test_an_answer_may_be_rated_for_a_day(clock: Clock) -> None:
    ids = AnswerIds(b"k" * 32, b"one!", clock)
    given = ids.of(context())
    assert given is not None
    clock.now += 86_400
    ids.read(given, "ann")
    clock.now += 1
    with pytest.raises(InvalidRequest, match="over a day ago") as refused:
        ids.read(given, "ann")
    assert refused.value.code == "answer_too_old"


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
