"""The long checks name all that they need at once, before they begin."""

from pathlib import Path

import pytest

from tests.cluster.needs import needed
from tests.image.needs import building, require


@pytest.mark.parametrize(
    ("check", "packages"), [("image-test", building()), ("cluster-test", needed())]
)
def test_a_machine_without_programs_is_told_them_all(
    check: str, packages: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match=f"{check} needs") as failed:
        require(check, packages)
    programs = {name for name, place in packages.items() if not place.startswith("/")}
    words = str(failed.value).partition("apt-get install ")[2].partition(";")[0].split()
    assert programs <= set(words) <= packages.keys()
