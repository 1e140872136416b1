"""Lines of input files: which are requests, and what is said of those that are none."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from service.plugins.batches.lines import (
    Line,
    parse_line,
    read_lines,
    render_answer,
    render_error,
)
from service.plugins.batches.store import Problem
from tests.plugins.batches.inputs import GENERATE, line

MOST = 4000


def parsed(value: Any, most: int | None = None) -> Line | Problem:
    return parse_line(7, raw_of(value), GENERATE, most)


def raw_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def test_a_line_is_a_request_with_a_name() -> None:
    assert parsed(line("a", prompt="x")) == Line(
        7, "a", b'{"model":"fake","prompt":"x","max_tokens":4,"service_tier":"flex"}'
    )


@pytest.mark.parametrize(
    ("value", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"\xff", "invalid_json_line", None),
        (b"[]", "invalid_json_line", None),
        (b'{"custom_id": NaN}', "invalid_json_line", None),
        ({**line("a"), "custom_id": 5}, "invalid_custom_id", "custom_id"),
        ({**line("a"), "custom_id": ""}, "invalid_custom_id", "custom_id"),
        ({**line("a"), "custom_id": "é" * 257}, "invalid_custom_id", "custom_id"),
        ({**line("a"), "method": "GET"}, "invalid_method", "method"),
        ({**line("a"), "url": "/v1/files"}, "mismatched_url", "url"),
        ({**line("a"), "body": "text"}, "invalid_body", "body"),
    ],
)
def test_what_is_no_request_is_named_with_its_line(
    value: Any, code: str, param: str | None
) -> None:
    problem = parsed(value)
    assert isinstance(problem, Problem)
    assert (problem.code, problem.line, problem.param) == (code, 7, param)


@pytest.mark.parametrize(
    ("value", "most", "code"),
    [
        (line("a", prompt="x" * MOST), MOST, "line_too_long"),
        (line("a", prompt=[[]] * 10_000), 1 << 20, "invalid_body"),
    ],
)
def test_a_line_that_is_too_large_is_not_parsed(value: Any, most: int, code: str) -> None:
    problem = parsed(value, most)
    assert isinstance(problem, Problem)
    assert (problem.code, problem.line) == (code, 7)
    assert isinstance(parsed(line("a"), most), Line)


async def read(path: Path, most: int | None = MOST) -> list[tuple[int, bytes]]:
    return [each async for chunk in read_lines(path, most) for each in chunk]


async def test_lines_keep_their_numbers_when_empty_ones_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"a\n\n  \r\nb\r\nc")
    assert await read(file) == [(1, b"a\n"), (4, b"b\r\n"), (5, b"c")]


async def test_many_chunks_number_their_lines_as_one(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"".join(b"%d\n" % number + b" " * 500 + b"\n" for number in range(1000)))
    found = await read(file)
    assert found == [(2 * number + 1, b"%d\n" % number) for number in range(1000)]


async def test_nothing_is_read_after_a_line_that_is_too_long(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"a\n" + b"x" * 5000 + b"\nb\n")
    assert await read(file, 10) == [(1, b"a\n"), (2, b"x" * 11)]
    assert await read(file, None) == [(1, b"a\n"), (2, b"x" * 5000 + b"\n"), (3, b"b\n")]


@pytest.mark.parametrize("blank", [b"\n", b" \t\r\n", b" " * 3000 + b"\n", b"\n\r"])
async def test_any_length_of_blank_lines_is_skipped_and_counted(
    tmp_path: Path, blank: bytes
) -> None:
    """Also one that is longer than a line may be, and one that has text at its end."""
    file, times = tmp_path / "input", 100_000 // len(blank)
    file.write_bytes(b"a\n" + blank * times + b"  b\n" + blank * times)
    place = 2 + times * blank.count(b"\n")
    for most in (10, None):
        numbers = [(number, line.strip()) for number, line in await read(file, most)]
        assert numbers == [(1, b"a"), (place, b"b")]


async def test_a_file_of_blank_lines_gives_nothing_to_parse(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"\n" * 1_000_000)
    assert [chunk async for chunk in read_lines(file, MOST)] == []


@pytest.mark.timing
async def test_blank_lines_cost_little_of_the_processor(tmp_path: Path) -> None:
    """A megabyte of them took 80 ms when each was a line to look at."""
    file = tmp_path / "input"
    file.write_bytes(b"\n" * 20_000_000)
    begun = time.process_time()
    assert await read(file) == []
    assert time.process_time() - begun < 20 * 0.01


def test_an_answer_is_one_line_of_openais_form() -> None:
    asked = Line(3, 'a "name"\n', b"{}")
    for body in (b'{"x":1}', b'{\n "x": 1}\n'):
        rendered = render_answer("batch_ab", asked, 200, body)
        assert rendered.count(b"\n") == 1
        assert json.loads(rendered) == {
            "id": "batch_req_ab_3",
            "custom_id": 'a "name"\n',
            "response": {"status_code": 200, "request_id": "batch_req_ab_3", "body": {"x": 1}},
            "error": None,
        }


def test_an_error_has_no_response() -> None:
    assert json.loads(render_error("batch_ab", Line(3, "a", b"{}"), "batch_expired", "Late.")) == {
        "id": "batch_req_ab_3",
        "custom_id": "a",
        "response": None,
        "error": {"code": "batch_expired", "message": "Late."},
    }
