"""The error with which a file of an adapter or a model is refused."""

from typing import ClassVar

from service.errors import ConfigurationError

_SHOWN = 200


class FileRefused(ConfigurationError):
    """A file breaks a rule; names its owner, the file, the rule, expected and found value.

    `owner` is the name of the adapter or model, as well as it is known; `file` is relative to its
    folder, so the message shows no path of the machine.
    """

    kind: ClassVar[str]

    def __init__(self, owner: str, file: str, reason: str, expected: object, found: object):
        self.owner = owner
        self.file = file
        self.reason = reason
        self.expected = _shown(expected)
        self.found = _shown(found)
        super().__init__(
            f"{self.kind} {owner}: {file}: {reason}: expected {self.expected}, found {self.found}"
        )


def _shown(value: object) -> str:
    # The shown values may come from a hostile file, so they are cut and made printable.
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value)[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
