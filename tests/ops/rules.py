"""Reading of the rules of deploy/prometheus."""

from pathlib import Path
from typing import Any

import yaml

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"


def rules(file: str) -> list[dict[str, Any]]:
    """The rules of a file, in its order."""
    groups = yaml.safe_load((PROMETHEUS / file).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {
    rule["alert"]: rule for file in ("alerts.yaml", "kubernetes.yaml") for rule in rules(file)
}
