"""Decisions that one module makes for every request, so that no other comes to make them too."""

import re

from tests.architecture.source import modules


def users(pattern: str) -> set[str]:
    """Modules whose text holds the pattern."""
    return {
        name
        for name, file in modules().items()
        if re.search(pattern, file.read_text(encoding="utf-8"))
    }


def test_one_module_asks_what_a_tenant_may_use() -> None:
    assert users(r"\.may_use_\w+\(") == {"service.adapters.choice"}


def test_one_module_gives_a_request_its_model() -> None:
    assert users(r"context\.(model|adapter)\b[^=\n]* = ") == {"service.adapters.choice"}


def test_one_module_makes_the_ending_of_a_request() -> None:
    assert users(r"\bEnding\(") == {"service.http.exchange"}


def test_admission_is_called_once_before_every_engine() -> None:
    assert users(r"\bAdmitted\(") == {
        "service.generation.served_model",
        "service.vllm.encoder",
    }
    assert users(r"\.acquire\(context") == {"service.admission.admitted"}


def test_sources_are_read_by_clients_that_ask_about_redirects() -> None:
    """The other clients of HTTP call this service or its engines, and follow no redirect."""
    library = (
        r"(?:^|\n)\s*(?:import|from) (?:aiohttp|requests|httpx|urllib3?\.request|huggingface_hub)\b"
    )
    assert users(library) == {
        "service.cli.adapters_status",
        "service.sources.artifact",
        "service.sources.redirects",
        "service.sources.source",
        "service.plugins.batches.cli",
        "service.vllm.remote.http_client",
    }
    assert users(r"fsspec\.filesystem\(|fsspec\.open\(") == {"service.sources.redirects"}
    assert users("follow_redirects") == set()
