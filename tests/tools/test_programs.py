"""Programs and libraries that are there, and the packages of those that are not."""

import pytest

from tools import programs


def test_a_library_is_found_as_a_program_is(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {"libc.so.6": ("libc6",), "libnothing.so.9": ("libnothing9",), "sh": ("dash",)}
    monkeypatch.setattr(programs, "PACKAGES", packages)

    assert programs.missing(["libc.so.6", "libnothing.so.9", "sh"]) == ["libnothing9"]
    assert programs.program("libc.so.6") == "libc.so.6"
    with pytest.raises(AssertionError, match="install Debian's package libnothing9"):
        programs.program("libnothing.so.9")
