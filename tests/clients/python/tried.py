"""The service under trial, and the lines that say what a client could do with it."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

URL, MODEL, TOOLS, DECIDE, ENCODER, TOKENIZER = (
    os.environ[f"CLIENTS_{name}"]
    for name in ("URL", "MODEL", "TOOLS", "DECIDE", "ENCODER", "TOKENIZER")
)
"""Address of the service, its base model, its adapters that call functions and that decide, its
encoder, and the folder of the base model's tokenizer."""

SERVICE, ROOT = os.environ["CLIENTS_SERVICE"], os.environ["CLIENTS_ROOT"]
"""The interpreter that has the service's packages, and the folder of its source."""

JAPAN = "What is the name of the capital city of Japan?"
OSLO = "Is it raining in Oslo?"
FILM = "A warm, funny film that I would gladly watch again."
SENTIMENT = "What is the sentiment of the text?"

Check = Callable[[], Any]


def tried(what: str, fails: str = "", because: str = "") -> Callable[[Check], Check]:
    """Run the decorated check at once and print a line of JSON: what it tried, and its error.

    `because` says whose fault it is that the check fails with an error that holds the text `fails`.
    """

    def run(check: Check) -> Check:
        failure = None
        try:
            check()
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        line = {"what": what, "failure": failure}
        if because and failure is None:
            line["failure"] = f"works now, and should have failed: {because}"
        elif because and fails in str(failure):
            line["because"] = because
        print(json.dumps(line), file=sys.__stdout__, flush=True)
        return check

    return run


def expect(found: Any, wanted: str) -> None:
    """Raise AssertionError unless the text of something holds these words."""
    if wanted not in str(found):
        raise AssertionError(f"no {wanted!r} in {str(found)[:300]!r}")
