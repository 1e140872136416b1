"""The packages of the images, as their lists pin them, each with the licence that it names."""

from importlib.metadata import Distribution
from pathlib import Path

import pytest

from service.plugins.sbom.bill import licence
from tools import packages_table
from tools.packages_table import cuda_table, pins
from tools.packages_table import packages_table as table


def installed(folder: Path, metadata: str, **files: str) -> Distribution:
    for name, text in {"METADATA": f"Name: x\nVersion: 1\n{metadata}", **files}.items():
        (folder / name).write_text(text)
    return Distribution.at(folder)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("License-Expression: MIT\nLicense: other", "MIT"),
        ("License: Apache 2.0", "Apache 2.0"),
        ("License: LICENSE\nClassifier: License :: OSI Approved :: BSD License", "BSD License"),
        ("License: MIT License\n        \n        Copyright (c) somebody", "MIT License"),
        ("License-File: COPYING", "Mozilla Public License"),
        ("Summary: says nothing", "not named"),
    ],
)
def test_the_licence_is_found_where_a_package_names_it(
    tmp_path: Path, metadata: str, expected: str
) -> None:
    package = installed(tmp_path, metadata, COPYING="\n  Mozilla Public License\n\nVersion 2.0\n")
    assert licence(package) == expected


def test_every_pin_of_the_images_is_listed_once_and_names_a_licence() -> None:
    rows = [line.strip("| ").split(" | ") for line in table().splitlines()[2:]]
    pinned = pins("cpu") | pins("hashed-loadtest")
    assert {name: version for name, version, _, _ in rows} == pinned
    assert len(rows) == len(pinned)
    assert [name for name, _, found, _ in rows if found == "not named"] == []
    listed = {line.strip("| ").split(" | ")[0] for line in cuda_table().splitlines()[2:]}
    assert pins("cuda").keys() <= listed | pinned.keys()


def test_a_package_that_is_installed_in_another_version_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages_table, "pins", lambda name: {"pyyaml": "0.1"})
    with pytest.raises(RuntimeError, match=r"pyyaml: pinned is 0\.1, installed is .*make setup"):
        table()
