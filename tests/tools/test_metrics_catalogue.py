"""The catalogue of metrics explains every label, and holds names of one form."""

import re

from tools.metrics_catalogue import LABELS, catalogue


def test_every_label_is_explained_and_used() -> None:
    assert {label for each in catalogue() for label in each.labels} == LABELS.keys()


def test_names_carry_the_prefix_and_their_unit() -> None:
    endings = {"counter": "_total", "histogram": "(_seconds|_score|_reads)"}
    for each in catalogue():
        assert re.fullmatch(r"inference_[a-z_]+", each.name)
        assert re.search(f"{endings.get(each.kind, '')}$", each.name), each.name
        assert each.text.endswith(".")
