"""The trials of clients, and their list in docs/clients.md."""

import re

import pytest

from tests.clients.clients import CLIENTS, Trial
from tests.clients.install import FOLDER, python_of
from tests.clients.table import PAGE, table, version_of

LISTED = [name for name in CLIENTS if not name.startswith("java")]


def test_every_script_is_a_client() -> None:
    scripts = {
        f"{file.parent.name}/{file.name}"
        for folder in ("python", "node", "java")
        for file in (FOLDER / folder).iterdir()
        if file.suffix in (".py", ".mjs", ".java") and file.stem not in ("tried", "gateway")
    }
    assert scripts == CLIENTS.keys()


@pytest.mark.parametrize("script", LISTED)
def test_a_client_is_pinned_and_the_page_shows_that_version(script: str) -> None:
    package = CLIENTS[script]
    version = version_of(script)
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert any(re.match(rf"- {re.escape(package)} \(\w+\) {version}: ", line) for line in lines)


def test_the_list_says_what_works_and_what_fails() -> None:
    found = {"python/openai-sdk.py": [Trial("chat", None), Trial("stream", "Error: no")]}
    version = version_of("python/openai-sdk.py")
    assert table(found) == f"- openai (Python) {version}: 1/2, **not** stream"


def test_the_list_says_whose_fault_a_failure_is() -> None:
    found = {"python/openai-sdk.py": [Trial("chat", "Error: 404", "its own")]}
    assert table(found).endswith(": 0/1, **not** chat (its own)")


def test_lines_of_clients_that_did_not_run_stay() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before = table({}, page).splitlines()
    after = table({"node/ai-sdk.mjs": [Trial("text", None)]}, page).splitlines()
    assert set(after) - set(before) == {f"- ai (Node) {version_of('node/ai-sdk.mjs')}: 1/1"}
    assert len(after) == len(before) == len(CLIENTS)


def test_a_client_with_packages_of_its_own_has_its_own_environment() -> None:
    assert python_of("python/openai-sdk.py") != python_of("python/cohere-sdk.py")
    assert python_of("python/anthropic-sdk.py") == python_of("python/cohere-sdk.py")
    assert python_of("python/smg-gateway.py") == python_of("python/vllm-router.py")
    assert python_of("python/smg-gateway.py") != python_of("python/cohere-sdk.py")
