"""Intents of commands to a smart home, twelve sentences of every template.

Usage: python deploy/local/recipes/intent_data.py FILE
"""

import sys
from pathlib import Path

from home_intents import draw_commands
from rows import write_rows

PER_TEMPLATE = 12
SEED = 1

if __name__ == "__main__":
    write_rows(
        Path(sys.argv[1]),
        (
            {"text": each.text, "label": each.intent, "group": each.template}
            for each in draw_commands(PER_TEMPLATE, SEED)
        ),
    )
