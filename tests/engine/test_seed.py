"""The process that the engine's processes are forked from, where there is none (CPU build)."""

import pytest
from vllm.v1.engine import utils

from service.vllm.cpu import forkserver as seed


def test_without_a_seed_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed, "_seeds", {})
    before = utils.get_mp_context
    seed.use_seed()
    assert utils.get_mp_context is before
