"""Settings as they may be printed: with all secrets masked, also those inside a value."""

import json
import re
from typing import Any

MASK = "********"
_SECRET = re.compile(
    r"(^|_)(token|password|passwd|passphrase|secret|credentials?|auth|authorization"
    r"|(api_?|access_?|private_?|secret_?|^)key)$",
    re.I,
)
_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*:/{1,2})(?P<rest>.*)", re.I | re.S)
_PORT = re.compile(r"[^@:]+(:[0-9]*)?|\[[^]]*\](:[0-9]*)?")


def masked(value: Any, name: str = "") -> Any:
    """The value of a setting, masked if its name says secret, and with secrets in addresses masked.

    For `storage`, the address of the quota store, only the scheme is kept.
    """
    if isinstance(value, dict):
        return {key: masked(child, str(key)) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [masked(child, name) for child in value]
    if value is not None and _SECRET.search(name.replace("-", "_")):
        return MASK
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith(("{", "[")):
        return _masked_json(value)
    return hidden(value) if name == "storage" else _masked_address(value)


def hidden(value: str) -> str:
    """An address reduced to its scheme; used for invalid addresses, whose parts cannot be found."""
    match = _ADDRESS.fullmatch(value)
    if match is not None and match["rest"]:
        return f"{match['scheme']}{MASK}"
    return MASK if re.search(r":.*@", value, re.S) else value


def _masked_address(value: str) -> str:
    """An address without user, password and query.

    A password may contain any character, so it ends at the last `@`. If the text before the first
    slash looks like a host and a port, there is no password, because a path may contain an `@` too.
    """
    match = _ADDRESS.fullmatch(value)
    if match is None:
        return value
    rest, query, _ = match["rest"].partition("?")
    if "@" in match["rest"] and not _PORT.fullmatch(re.split("[/?#]", rest, maxsplit=1)[0]):
        # The question mark may be the password's.
        _, _, rest = match["rest"].rpartition("@")
        rest, query, _ = rest.partition("?")
        rest = f"{MASK}@{rest}"
    return f"{match['scheme']}{rest}" + (f"?{MASK}" if query else "")


def _masked_json(value: str) -> str:
    try:
        return json.dumps(masked(json.loads(value)))
    except ValueError:
        return MASK
