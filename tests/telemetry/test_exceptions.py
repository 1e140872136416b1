"""Exceptions in a log, and the parts that it leaves out."""

from service.telemetry.logs import format_exception

CANARY = "canary-7f3a"


def caught() -> Exception:
    try:
        try:
            raise KeyError(CANARY)
        except KeyError as cause:
            raise ValueError(f"not {CANARY}") from cause
    except ValueError as error:
        return error


def test_the_cause_comes_first_with_frames_and_messages() -> None:
    text = format_exception(caught(), withhold=False)
    assert text.index("KeyError: 'canary-7f3a'") < text.index("ValueError: not canary-7f3a")
    assert "in caught" in text


def test_withheld_messages_leave_type_length_and_frames() -> None:
    text = format_exception(caught(), withhold=True)
    assert "KeyError: (13 characters withheld)" in text
    assert "ValueError: (15 characters withheld)" in text
    assert "in caught" in text
    assert CANARY not in text


def test_groups_are_withheld_whole() -> None:
    group = ExceptionGroup(f"many {CANARY}", [caught(), RuntimeError()])
    text = format_exception(group, withhold=True)
    assert CANARY not in text
    assert text.startswith("ExceptionGroup of 2:")
    assert text.endswith("RuntimeError")


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert format_exception(first, withhold=False) == "ValueError: b\nValueError: a"
