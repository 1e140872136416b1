"""String formats as regular expressions, and rewriting of patterns into equivalent ones."""

from collections.abc import Mapping

_DATE = (
    r"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    r"|02-(?:0[1-9]|1\d|2[0-8]))|(?:\d\d(?:0[48]|[2468][048]|[13579][26])"
    r"|(?:[02468][048]|[13579][26])00)-02-29)"
)
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+\-](?:[01]\d|2[0-3]):[0-5]\d)"
_CLOCK = r"T(?:\d{1,6}H(?:\d{1,6}M(?:\d{1,6}S)?)?|\d{1,6}M(?:\d{1,6}S)?|\d{1,6}S)"
_DAYS = r"(?:\d{1,6}Y(?:\d{1,6}M(?:\d{1,6}D)?)?|\d{1,6}M(?:\d{1,6}D)?|\d{1,6}D)"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-]{0,14}[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9_+\-]{1,16}"
_IPV4 = r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_HEX = "[0-9A-Fa-f]"
_GROUP = f"{_HEX}{{1,4}}"
_IPV6 = "|".join(
    [
        f"(?:{_GROUP}:){{7}}{_GROUP}",
        f"::(?:(?:{_GROUP}:){{0,6}}{_GROUP})?",
        *(f"(?:{_GROUP}:){{{n}}}(?::{_GROUP}){{1,{7 - n}}}" for n in range(1, 7)),
    ]
)
_PCHAR = r"A-Za-z0-9\-._~!$&'()*+,;=:@"
_PERCENT = f"%{_HEX}{_HEX}"


_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9\-.]*[A-Za-z0-9])?(?::\d{1,5})?"
_URI_PART = f"(?:[{_PCHAR}/]|{_PERCENT})*"

FORMATS: Mapping[str, str] = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "duration": rf"^P(?:\d{{1,6}}W|{_DAYS}(?:{_CLOCK})?|{_CLOCK})$",
    "email": rf"^{_ATOM}(?:\.{_ATOM})?@{_LABEL}(?:\.{_LABEL})?\.[A-Za-z]{{2,8}}$",
    "hostname": rf"^{_LABEL}(?:\.{_LABEL}){{0,3}}$",
    "ipv4": f"^{_IPV4}$",
    "ipv6": f"^(?:{_IPV6})$",
    "uuid": f"^{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}$",
    "uri": rf"^[A-Za-z][A-Za-z0-9+\-.]{{0,20}}:(?://{_HOST}(?:/{_URI_PART})?"
    rf"|(?:[{_PCHAR}]|{_PERCENT}){_URI_PART})(?:\?{_URI_PART})?(?:#{_URI_PART})?$",
}
"""Formats as patterns of whole texts, each of which is of the format (RFC 3339, 4122, 5321, 3986).

They leave out what no program needs: a label of more than 16 characters, a leap second.
"""

SHORTER: Mapping[str, tuple[str, ...]] = {
    "email": (rf"^{_ATOM}@[A-Za-z0-9]{{1,12}}(?:\.[A-Za-z0-9]{{1,8}})?\.[A-Za-z]{{2,6}}$",),
    "hostname": (r"^[A-Za-z0-9]{1,20}(?:\.[A-Za-z0-9]{1,20})?$",),
    "uri": (
        rf"^[A-Za-z]{{2,8}}://[A-Za-z0-9](?:[A-Za-z0-9\-.]{{0,30}}[A-Za-z0-9])?"
        rf"(?:[/?][{_PCHAR}/?]{{0,80}})?$",
        rf"^https?://[A-Za-z0-9](?:[A-Za-z0-9\-.]{{0,18}}[A-Za-z0-9])?(?:/[{_PCHAR}]{{0,20}})?$",
    ),
}
"""The same in fewer and fewer characters, for schemas that also limit the length."""

NARROWER: Mapping[str, str] = {
    # z.iso.duration(), z.hostname() and z.emoji()
    r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?"
    r"(\d+([.,]\d+)?S)?)?)$": FORMATS["duration"],
    r"^(?=.{1,253}\.?$)[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[-0-9a-zA-Z]{0,61}[0-9a-zA-Z])?)*\.?$": FORMATS["hostname"],
    r"^(?=[\s\S]*[\p{Extended_Pictographic}\p{Regional_Indicator}\u20E3])"
    r"[\p{Extended_Pictographic}\p{Emoji_Component}]+$": "^[\U0001f600-\U0001f64f]+$",
}
"""Patterns of Zod that have no automaton, or a large one, and others that match less."""
