"""Fixtures of batches whose files are in a store."""

from collections.abc import Iterator

import pytest

from tests.sources.servers import S3, s3_server


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A store in which a batch that failed is tried again at once."""
    monkeypatch.setattr("service.plugins.batches.runner._AFTER_FAILURE_SECONDS", 0.1)
    with s3_server(monkeypatch) as server:
        yield server
