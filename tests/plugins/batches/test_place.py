"""What the core does for the routes, bodies and settings of batches."""

from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from service.plugins.batches.bodies import BatchRequest
from service.plugins.batches.settings import BatchSettings
from service.settings.load import load_settings
from tests.answers import refusal
from tests.live_service import LiveService


def test_the_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("model: {name: a, path: b}\nbatches: {path: e}\n", encoding="utf-8")
    assert load_settings(file).section(BatchSettings).path == tmp_path / "e"


def test_the_methods_of_all_routes_at_a_path_are_named(tmp_path: Path) -> None:
    with LiveService(batches=BatchSettings(path=tmp_path)) as live:
        for path, allowed in (("", "GET, HEAD, POST"), ("/file-1", "DELETE, GET, HEAD")):
            response = httpx.put(f"{live.url}/v1/files{path}")
            refusal(response, 405)
            assert response.headers["allow"] == allowed


def test_of_too_many_pairs_of_metadata_the_number_is_the_error() -> None:
    made = {"input_file_id": "file", "endpoint": "/v1/generate", "completion_window": "1h"}
    with pytest.raises(ValidationError, match="at most 16 keys, got 1000") as refused:
        BatchRequest.model_validate(made | {"metadata": {str(number): 0 for number in range(1000)}})
    assert refused.value.error_count() == 1
