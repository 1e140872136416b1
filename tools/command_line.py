"""Command lines of the tools: `--help` prints the text of the module, and starts nothing."""

import argparse


def command_line(module: str, text: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m MODULE`, whose help keeps the lines of the text as they are."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
