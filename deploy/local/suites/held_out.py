"""Lines for a suite: a sample of the test part of a recipe's data, on which nothing was fitted.

Usage: python deploy/local/suites/held_out.py RECIPE COUNT FILE
"""

import json
import random
import sys
from pathlib import Path

from training.config import load_finetune_settings
from training.prepare import prepare

if __name__ == "__main__":
    recipe, count, file = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    test = prepare(load_finetune_settings(recipe)).split.test
    chosen = random.Random(0).sample(list(test), count)
    kept = [each.model_dump(exclude_none=True, exclude={"group", "stratum"}) for each in chosen]
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in kept]
    file.write_text("".join(lines), encoding="utf-8")
