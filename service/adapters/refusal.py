"""The error with which every adapter is refused."""

from service.errors import ConfigurationError

_SHOWN = 200


class AdapterRefused(ConfigurationError):
    """An adapter's file breaks a rule; names adapter, file, rule, expected and found value.

    `adapter` is the manifest's name, or the folder's while no manifest could be read; `file` is
    relative to the adapter's folder, so the message shows no path of the machine.
    """

    def __init__(self, adapter: str, file: str, reason: str, expected: object, found: object):
        self.adapter = adapter
        self.file = file
        self.reason = reason
        self.expected = _shown(expected)
        self.found = _shown(found)
        super().__init__(
            f"adapter {adapter}: {file}: {reason}: expected {self.expected}, found {self.found}"
        )


def _shown(value: object) -> str:
    # The shown values may come from a hostile file, so they are cut and made printable.
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value)[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
