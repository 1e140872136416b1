"""Commands to a smart home as JSON: the intent and its slots.

Usage: python deploy/local/recipes/commands_data.py FILE
"""

import json
import sys
from pathlib import Path

from home_intents import draw_commands
from rows import write_rows

PER_TEMPLATE = 12
SEED = 2

if __name__ == "__main__":
    write_rows(
        Path(sys.argv[1]),
        (
            {
                "messages": [{"role": "user", "content": each.text}],
                "completion": json.dumps({"intent": each.intent} | dict(each.slots)),
                "group": each.template,
                "stratum": " ".join([each.intent, *sorted(name for name, _ in each.slots)]),
            }
            for each in draw_commands(PER_TEMPLATE, SEED)
        ),
    )
