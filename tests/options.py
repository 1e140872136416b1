"""Options of the long checks, from the variable OPTIONS that make hands on.

    make fuzz OPTIONS="--requests 1000 --seed 2"

`OPTIONS=--help` lists those of a check, which does not run then.
"""

import argparse
import os
import shlex

import pytest

from loadtests.processes import unwind_on_sigterm


def check_options(check: str, text: str | None) -> argparse.ArgumentParser:
    """A parser of the options of `make CHECK`, whose help keeps the lines of the text."""
    return argparse.ArgumentParser(
        prog=f"make {check} OPTIONS=",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def given(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of this run; after `--help` and for a wrong one, pytest ends at once.

    SIGTERM ends the check as a failure from here on, so that its servers end with it.
    """
    unwind_on_sigterm()
    try:
        return parser.parse_args(shlex.split(os.environ.get("OPTIONS", "")))
    except SystemExit as end:
        pytest.exit("the check did not run", returncode=int(end.code or 0))
