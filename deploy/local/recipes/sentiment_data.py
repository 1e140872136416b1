"""Sentiment: sentences that people rated from -4 to 4, out of the source of vaderSentiment.

Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text". The package is MIT; the sentences are other people's, so they are fetched, not kept.

Usage: python deploy/local/recipes/sentiment_data.py FILE
"""

import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packages import fetch
from rows import write_rows

PACKAGE = "vaderSentiment==0.5"
SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
_ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_SOURCES = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets")
_NEUTRAL = 0.5
"""Sentences rated no further from 0 are neither positive nor negative."""


def rated() -> Iterator[tuple[str, float, str]]:
    """The article or review that each sentence is of, its mean rating, and the sentence."""
    package = zipfile.ZipFile(io.BytesIO(fetch(PACKAGE, SHA256, source=True)))
    with tarfile.open(fileobj=io.BytesIO(package.read(_ARCHIVE))) as archive:
        for source in _SOURCES:
            file = archive.extractfile(f"hutto_ICWSM_2014/{source}_GroundTruth.txt")
            assert file is not None
            for line in file.read().decode("latin-1").splitlines():
                identity, rating, text = line.split("\t", 2)
                if text.strip():
                    group = f"{source}/{identity.partition('_')[0]}"
                    yield group, float(rating), text.strip()


def rows() -> Iterator[dict[str, object]]:
    """One row a sentence; the sentences of one article or review are one group."""
    for group, rating, text in rated():
        if abs(rating) > _NEUTRAL:
            label = "positive" if rating > 0 else "negative"
            yield {"text": text, "label": label, "group": group}


if __name__ == "__main__":
    write_rows(Path(sys.argv[1]), rows())
