"""The rules that `make ops-test` runs are those that are deployed, in less time."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ops.compression import compressed
from tests.ops.programs import DEPLOY
from tools.programs import run

DURATION = re.compile(r"\[\w+\]|offset \w+|\* \d{4,}")


def rules(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("name", ["recording.yaml", "alerts.yaml"])
def test_only_durations_differ(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / "prometheus" / name).read_text(encoding="utf-8")
    short = compressed(text)
    (tmp_path / name).write_text(short)
    run("promtool", "check", "rules", str(tmp_path / name))
    for before, after in zip(rules(text), rules(short), strict=True):
        assert {**before, "expr": "", "for": ""} == {**after, "expr": "", "for": ""}
        assert not set(DURATION.findall(before["expr"])) & set(DURATION.findall(after["expr"]))


def test_a_window_without_a_shorter_one_is_noticed() -> None:
    with pytest.raises(KeyError, match="4h"):
        compressed("expr: rate(x[4h])")
