"""Figures of a guard beside a baseline: TF-IDF of words and pairs with logistic regression.

Usage: python deploy/local/recipes/guard_figures.py RECIPE NAME URL

Asks the service at URL, which serves the guard under NAME, for the test lines of its recipe and for
the lines beside them (`-outside`). Both are trained on the same lines, and both get their threshold
from the same harmless lines (`-harmless`), of which at most 1 % or 5 % may reach it. Prints a table
in Markdown.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from evaluation.client import Client
from evaluation.labels import LabelReader, Question
from service.classification.calibration import Array
from service.classification.conformal import bounded_threshold
from service.classification.reliability import auroc
from service.common.aio import gather
from service.common.command_line import markdown_table
from training.config import load_finetune_settings
from training.prepare import prepare

FLAG = "injection"
ALPHAS, CONFIDENCE = (0.01, 0.05), 0.95

Scores = Callable[[Sequence[str]], Array]
Labelled = Sequence[tuple[str, str]]
"""Texts and their labels."""


def served(name: str, url: str) -> Scores:
    """The probability of the flag by a running service."""

    async def ask(texts: Sequence[str]) -> Array:
        async with Client(url, None, 8) as client:
            reader = LabelReader(client, name)
            found = await gather(reader.read(text, Question()) for text in texts)
        return np.array([each.probs[FLAG] for each in found])

    return lambda texts: asyncio.run(ask(texts))


def baseline(lines: Labelled) -> Scores:
    """The probability of the flag by a model of words that is trained on the lines."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    model = make_pipeline(words, LogisticRegression(C=10, max_iter=2000))
    texts, labels = zip(*lines, strict=True)
    model.fit(texts, [label == FLAG for label in labels])
    return lambda texts: np.array(model.predict_proba(texts)[:, 1])


def figures(scores: Array, lines: Labelled, thresholds: Sequence[float]) -> list[str]:
    """Accuracy, AUROC, the harmless texts and the share of attacks that reach each threshold."""
    attack = np.array([label == FLAG for _, label in lines])
    both = attack.any() and not attack.all()
    cells = [
        f"{((scores >= 0.5) == attack).mean():.3f}",
        f"{auroc(scores, attack):.3f}" if both else "",
    ]
    for threshold in thresholds:
        reached = scores >= threshold
        cells.append(f"{int(reached[~attack].sum())} of {int((~attack).sum())}")
        cells.append(f"{reached[attack].mean():.3f}" if attack.any() else "")
    return cells


def parts(recipe: Path) -> tuple[Labelled, dict[str, Labelled], list[str]]:
    """Lines of the training, sets to measure, and harmless texts for the threshold."""
    settings = load_finetune_settings(recipe)
    split = prepare(settings).split
    (file,) = settings.data.files
    beside = {
        name: [json.loads(line) for line in file.with_stem(f"{file.stem}-{name}").open()]
        for name in ("harmless", "outside")
    }
    tested = [each.model_dump() for each in split.test]
    sets = {
        "test part": tested,
        "of these, look-alikes": [each for each in tested if "look-alike/" in str(each["group"])],
    }
    for name in dict.fromkeys(each["set"] for each in beside["outside"]):
        sets[name] = [each for each in beside["outside"] if each["set"] == name]
    return (
        _labelled([each.model_dump() for each in split.train]),
        {name: _labelled(lines) for name, lines in sets.items()},
        [each["text"] for each in beside["harmless"]],
    )


def _labelled(lines: Sequence[Mapping[str, str]]) -> Labelled:
    return [(line["text"], line["label"]) for line in lines]


def main(recipe: Path, name: str, url: str) -> None:
    """Print the table."""
    training, sets, harmless = parts(recipe)
    texts = [text for lines in sets.values() for text, _ in lines]
    rows = []
    for model, scores in ((name, served(name, url)), ("TF-IDF", baseline(training))):
        found = scores([*harmless, *texts])
        known = dict(zip([*harmless, *texts], found, strict=True))
        apart = found[: len(harmless)]
        thresholds = [bounded_threshold(apart, alpha, CONFIDENCE) for alpha in ALPHAS]
        for of, lines in sets.items():
            values = np.array([known[text] for text, _ in lines])
            rows.append([of, model, str(len(lines)), *figures(values, lines, thresholds)])
        sys.stdout.write(f"{model}: thresholds {', '.join(f'{each:.4f}' for each in thresholds)}\n")
    bounds = [f"{what} at {alpha:.0%}" for alpha in ALPHAS for what in ("harmless", "caught")]
    head = ("lines of", "model", "lines", "accuracy", "AUROC", *bounds)
    sys.stdout.write(markdown_table(head, rows) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
