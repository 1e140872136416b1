"""A machine with a card on which the installed vLLM does not compute."""

from pathlib import Path

import pytest

from service.plugins.planning.cli import unused_cards
from service.settings import section as platform


@pytest.mark.parametrize(
    ("installed", "devices", "told"),
    [
        (platform.CPU, ("nvidia0", "nvidia1", "nvidiactl"), ["nvidia0"]),
        (platform.CPU, ("nvidiactl", "null"), []),
        (platform.CUDA, ("nvidia0",), []),
    ],
)
def test_a_card_is_told_of_where_the_build_is_the_cpus(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: str,
    devices: tuple[str, ...],
    told: list[str],
) -> None:
    for name in devices:
        (tmp_path / name).touch()
    monkeypatch.setattr(platform, "installed", lambda: installed)
    assert unused_cards(tmp_path) == [str(tmp_path / name) for name in told]
