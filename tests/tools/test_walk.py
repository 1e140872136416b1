"""The walk of a request: what it passes, and how many files that may be."""

import json
import sys

import pytest

from tools.walk import __main__ as command
from tools.walk.__main__ import walk

MOST_FILES = {"chat": 36, "classify": 38, "refusal": 31, "adapter": 38}


@pytest.mark.parametrize("request_name", MOST_FILES)
def test_a_request_passes_few_files(request_name: str) -> None:
    found = [file.path for file in walk(request_name)]
    assert len(found) == len(set(found))
    assert found[0] == "service/http/connection.py"
    assert len(found) <= MOST_FILES[request_name]


def test_it_is_printed_as_text_and_as_a_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["walk", "refusal"])
    command.main()
    *lines, end = capsys.readouterr().out.splitlines()

    monkeypatch.setattr(sys, "argv", ["walk", "refusal", "--json"])
    command.main()
    found = json.loads(capsys.readouterr().out)

    files, functions = [f for f in lines if f[0] != " "], [f for f in lines if f[0] == " "]
    # Two requests may meet the same files in another order.
    assert sorted(files) == sorted(f"{file['path']}  {file['doc']}" for file in found)
    assert end == f"{len(files)} files, {len(functions)} functions"
    names = [each["name"] for file in found for each in file["functions"]]
    assert "RequestLifecycle.__call__" in names
