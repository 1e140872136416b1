"""Every generated file is as the code says, and a file that is not is found and written."""

import sys
from pathlib import Path

import pytest

from tools import generate
from tools.generate import GENERATED, ROOT


@pytest.mark.parametrize("file", GENERATED, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_file_is_current(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == GENERATED[file](), "run: make generate"


def test_check_is_silent_about_files_that_are_current(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    with pytest.raises(SystemExit) as ended:
        generate.main()
    assert (ended.value.code, capsys.readouterr().out) == (0, "")


def test_a_file_that_differs_is_named_and_written_only_without_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "page.md"
    file.write_text("old")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "GENERATED", {file: lambda: "new"})
    for arguments, code, said, text in (
        (["--check"], 1, "differs: page.md\n", "old"),
        ([], 0, "written: page.md\n", "new"),
        (["--check"], 0, "", "new"),
    ):
        monkeypatch.setattr(sys, "argv", ["generate", *arguments])
        with pytest.raises(SystemExit) as ended:
            generate.main()
        assert (ended.value.code, capsys.readouterr().out, file.read_text()) == (code, said, text)
