"""Licence of an installed package, as its metadata name it."""

from collections.abc import Iterator
from importlib.metadata import Distribution

_LONGEST = 100
_MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy"
_SAYS_NOTHING = ("license", "dual license", "unknown")


def licence(package: Distribution) -> str:
    """The licence that a package's metadata name: as an expression, in words or by classifier.

    Where they name none, the first line of its licence file.
    """
    return next(text for text in _candidates(package) if _says_something(text))


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
