"""A vLLM whose messages have another field: the service starts by the public client, and is right.

`make test-vllm` runs these; each starts a server.
"""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.renaming import write_renaming
from tests.engine.test_stock import BODIES, said
from tests.served.configuration import tiny_config
from tests.served.server import Server, running_server

pytestmark = pytest.mark.versions

FIELDS = (
    "new_token_ids",
    "utility_output",
    "new_logprobs",
    "new_prompt_logprobs_tensors",
    "new_sampling_mask",
    "prefill_stats",
    "external_req_id",
    "num_nans_in_logits",
    "finished_requests",
    "client_index",
)


@pytest.fixture(scope="module")
def as_it_is(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The answers of the installed vLLM."""
    config = tiny_config(tiny_folder)
    with running_server(tmp_path_factory.mktemp("installed"), config) as server:
        return answers(server)


def answers(server: Server) -> list[Any]:
    return [said(server.post(path, {"model": "tiny"} | body)) for path, body in BODIES]


@pytest.mark.parametrize("field", FIELDS)
def test_a_renamed_field_is_answered_right_by_the_public_client(
    field: str,
    as_it_is: list[Any],
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(write_renaming(tmp_path / "renamed", field)))
    config = tiny_config(tiny_folder, client="auto")
    with running_server(tmp_path, config, afresh=True) as server:
        metrics = httpx.get(f"{server.ops}/metrics", timeout=30).text
        assert 'inference_engine_client_info{client="stock"' in metrics
        assert f"renamed_{field}" in server.log.read_text()
        ready = httpx.get(f"{server.ops}/readyz?verbose", timeout=30).text
        assert "reached by its stock client" in ready
        assert f"renamed_{field}" in ready
        assert answers(server) == as_it_is
