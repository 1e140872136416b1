"""One format for all lines, in every process that vLLM starts."""

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

WRITES = """
import logging, warnings
from service.settings.telemetry import LogSettings
from service.telemetry.logs import configure_logging
from service.context import enter_context, internal_context
from service.tenants.tenant import ANONYMOUS

configure_logging(LogSettings(level={level!r}, format={form!r}))
logging.getLogger("service.app").info("ready: %s", "m")
logging.getLogger("uvicorn.error").info("Started server process")
logging.getLogger("httpx").info("GET https://signed.example/?secret=1")
logging.getLogger("service.app").debug("small print")
warnings.warn("old")

import vllm.logger
vllm.logger.init_logger("vllm.engine").info("engine\\nhere")
vllm.logger.init_logger("vllm.engine").debug("engine detail")
vllm.logger.init_logger("vllm.entrypoints.anthropic.serving").debug("Convert canary-77aa")
vllm.logger.init_logger("vllm.entrypoints.anthropic.serving").info("handler")
from vllm.renderers.hf import parse_chat_messages  # whose module is another in each version
vllm.logger.init_logger(parse_chat_messages.__module__).warning("Tool call canary-77aa")
vllm.logger.init_logger("vllm.tool_parsers.llama").warning("Regex timeout canary-77aa")

context = internal_context("r1", 1.0)
enter_context(context)
for tenant in (context.tenant, ANONYMOUS):
    context.tenant = tenant
    try:
        raise ValueError("said canary-19c2")
    except ValueError:
        logging.getLogger("service.api").exception("request failed")

from service.errors import EngineDead, InvalidRequest
for error in (InvalidRequest("of the client"), EngineDead()):
    try:
        raise error
    except Exception:
        vllm.logger.init_logger("vllm.entrypoints").exception("Error in a stream.")
"""


@cache
def lines_of(level: str = "info", form: str = "json") -> str:
    """The standard error of a process that logs as the service and its libraries do."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VLLM_")}
    done = subprocess.run(
        [sys.executable, "-c", WRITES.format(level=level, form=form)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of().splitlines()]


def test_every_line_is_json_of_one_form(told: list[dict[str, Any]]) -> None:
    for event in told:
        assert {"event", "level", "logger", "timestamp"} <= event.keys()
    loggers = {event["logger"] for event in told}
    assert {"service.app", "uvicorn.error", "vllm.engine", "py.warnings"} <= loggers


def test_vllm_says_each_thing_once(told: list[dict[str, Any]]) -> None:
    assert [e["event"] for e in told if e["logger"] == "vllm.engine"] == ["engine\nhere"]


def test_libraries_that_log_addresses_are_quiet(told: list[dict[str, Any]]) -> None:
    assert not [event for event in told if event["logger"] == "httpx"]
    assert "signed.example" not in lines_of(level="debug", form="console")


def test_a_users_request_withholds_messages_of_exceptions(told: list[dict[str, Any]]) -> None:
    own, users = [event for event in told if event["event"] == "request failed"]
    assert "ValueError: said canary-19c2" in own["exception"]
    assert "ValueError: (16 characters withheld)" in users["exception"]
    assert "canary-19c2" not in users["exception"].replace(
        'raise ValueError("said canary-19c2")', ""
    )
    assert own["request_id"] == users["request_id"] == "r1"


def test_a_clients_error_is_no_error_of_the_log(told: list[dict[str, Any]]) -> None:
    (failure,) = [event for event in told if event["logger"] == "vllm.entrypoints"]
    assert "EngineDead" in failure["exception"]


def test_the_level_holds_for_all() -> None:
    debug = lines_of(level="debug", form="console")
    assert "small print" in debug
    assert "engine detail" in debug
    warning = [json.loads(line) for line in lines_of(level="warning").splitlines()]
    assert {event["level"] for event in warning} == {"warning", "error"}


def test_no_level_shows_callers_texts() -> None:
    for level in ("debug", "warning"):
        lines = lines_of(level=level, form="console")
        assert "canary-77aa" not in lines
        assert ("handler" in lines) is (level == "debug")


def test_the_console_form_is_text() -> None:
    lines = lines_of(level="debug", form="console").splitlines()
    line = next(line for line in lines if "ready: m" in line)
    assert "[info" in line
    assert "[service.app]" in line
    assert not line.startswith("{")
