"""`llm-service calibrate-guard`, `-drift` and `-sets`: fit a classifier.

Exit codes: 0 written, 1 the adapter or head is refused, 2 the lines or the service cannot be used.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from evaluation.calibration.classifier import PackedClassifier
from evaluation.client import Client
from evaluation.packed import rewriting, show_section

_KEY = "OPENAI_API_KEY"

_Folder = Annotated[
    Path, typer.Argument(help="Folder of a packed adapter for classification or of a head.")
]
_Url = Annotated[str, typer.Option("--url", "-u", help="Running service that serves it.")]
_Name = Annotated[
    str | None, typer.Option("--model", help="Name that requests use; default the manifest's.")
]
_Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the section as JSON.")]
_URL = "http://127.0.0.1:8000"


def calibrate_guard(
    folder: _Folder,
    lines: Annotated[
        Path, typer.Option("--lines", "-l", help="Held-out harmless JSON Lines with `text`.")
    ],
    label: Annotated[
        list[str], typer.Option(help="Label that flags a text; again for each further one.")
    ],
    alpha: Annotated[
        float,
        typer.Option(min=0.0001, max=0.5, help="Share of harmless texts that may be flagged."),
    ] = 0.01,
    confidence: Annotated[
        float,
        typer.Option(min=0.5, max=0.9999, help="Certainty that their share is at most --alpha."),
    ] = 0.95,
    url: _Url = _URL,
    model: _Name = None,
    concurrency: _Concurrency = 8,
    as_json: _Json = False,
) -> None:
    """Find the threshold of a guard that few harmless texts reach, and write it into the manifest.

    An adapter gets another digest: sign it again and reload the service. For a head, start the
    service again. The API key is read from OPENAI_API_KEY.

    Example: llm-service calibrate-guard heads/safety --label injection --lines harmless.jsonl
    """
    with _packed(folder, url, model, concurrency) as packed:
        show_section(packed.find_threshold(lines, label, alpha, confidence), as_json)


def calibrate_drift(
    folder: _Folder,
    lines: Annotated[
        Path, typer.Option("--lines", "-l", help="Typical JSON Lines with `text`, at least 200.")
    ],
    url: _Url = _URL,
    model: _Name = None,
    concurrency: _Concurrency = 8,
    as_json: _Json = False,
) -> None:
    """Count labels, scores and lengths of typical inputs, and write them into the manifest.

    From then on the service measures how far its latest inputs are from them. An adapter gets
    another digest: sign it again and reload the service. For a head, start the service again.
    The API key is read from OPENAI_API_KEY.

    Example: llm-service calibrate-drift adapters/sentiment --lines typical.jsonl
    """
    with _packed(folder, url, model, concurrency) as packed:
        show_section(packed.count_typical(lines), as_json)


def calibrate_sets(
    folder: _Folder,
    lines: Annotated[
        Path,
        typer.Option(
            "--lines",
            "-l",
            help="Held-out JSON Lines with `text` and `label`; `labels` if several may apply.",
        ),
    ],
    coverage: Annotated[
        float,
        typer.Option(min=0.01, max=0.999, help="Share of sets that are to hold the true label."),
    ] = 0.9,
    url: _Url = _URL,
    model: _Name = None,
    concurrency: _Concurrency = 8,
    as_json: _Json = False,
) -> None:
    """Fit the conformal threshold of the label sets, and write it into the manifest.

    Where several labels may apply, each gets a threshold of its own, from the lines to which it
    applies. No line may have been used in training. An adapter gets another digest: sign it again
    and reload the service. For a head, start the service again. The API key is read from
    OPENAI_API_KEY.

    Example: llm-service calibrate-sets adapters/topics --lines held-out.jsonl
    """
    with _packed(folder, url, model, concurrency) as packed:
        show_section(packed.fit_sets(lines, coverage), as_json)


@contextmanager
def _packed(
    folder: Path, url: str, model: str | None, concurrency: int
) -> Iterator[PackedClassifier]:
    with rewriting(folder):
        yield PackedClassifier(folder, Client(url, os.environ.get(_KEY), concurrency), model)
