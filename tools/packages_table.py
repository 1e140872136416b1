"""The Python packages of the images in THIRD_PARTY.md, with the licences in their metadata."""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.marked import replaced

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "THIRD_PARTY.md"
_LONGEST = 100
_MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy"
_SAYS_NOTHING = ("license", "dual license", "unknown")


def page() -> str:
    """The page with the current tables."""
    text = PAGE.read_text(encoding="utf-8")
    text = replaced(text, "packages", packages_table())
    return replaced(text, "cuda", cuda_table())


def packages_table() -> str:
    """A Markdown table with a row for each package of the CPU image and of the load tests' image.

    Raises RuntimeError for a package that is not installed here in the version that is pinned.
    """
    lists = {"CPU": pins("cpu"), "load tests": pins("hashed-loadtest")}
    versions = {name: version for each in lists.values() for name, version in each.items()}
    lines = ["| package | version | licence | image |", "| --- | --- | --- | --- |"]
    for name, version in sorted(versions.items()):
        images = ", ".join(image for image, listed in lists.items() if name in listed)
        lines.append(f"| {name} | {version} | {licence(_installed(name, version))} | {images} |")
    return "\n".join(lines)


def cuda_table() -> str:
    """A Markdown table of the packages, or versions of them, that only the CUDA image holds."""
    only = sorted(pins("cuda").items() - pins("cpu").items())
    lines = ["| package | version |", "| --- | --- |"]
    return "\n".join(lines + [f"| {name} | {version} |" for name, version in only])


def pins(name: str) -> dict[str, str]:
    """The versions of a list in requirements/ by normalised name, as this machine installs them."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    lines = (re.sub(" --hash=.*", "", line) for line in text.splitlines())
    wanted = [Requirement(line) for line in lines if not line.startswith("#")]
    return {
        canonicalize_name(each.name): str(each.specifier).removeprefix("==")
        for each in wanted
        if each.marker is None or each.marker.evaluate()
    }


def licence(package: Distribution) -> str:
    """The licence that a package's metadata name: as an expression, in words or by classifier.

    Where they name none, the first line of its licence file.
    """
    return next(text for text in _candidates(package) if _says_something(text)).replace("|", "\\|")


def _candidates(package: Distribution) -> Iterator[str]:
    def field(name: str) -> list[str]:
        return package.metadata.get_all(name) or []

    yield from field("License-Expression")
    yield from field("License")
    classifiers = [each for each in field("Classifier") if each.startswith("License ::")]
    yield " or ".join(each.split(" :: ")[-1] for each in classifiers)
    for text in field("License"):
        yield from _first_lines(text)
    for file in field("License-File"):
        for place in (f"licenses/{file}", file):
            yield from _first_lines(package.read_text(place) or "")
    yield "not named"


def _first_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield "MIT" if line.strip() == _MIT else line.strip()


def _says_something(text: str) -> bool:
    one_line = 0 < len(text) <= _LONGEST and "\n" not in text
    return one_line and text.strip().lower() not in _SAYS_NOTHING


def _installed(name: str, version: str) -> Distribution:
    found = distribution(name)
    if found.version.partition("+")[0] != version:
        raise RuntimeError(f"{name}: pinned is {version}, installed is {found.version}: make setup")
    return found
