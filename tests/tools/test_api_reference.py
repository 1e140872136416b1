"""The reference of the API names every route, and its fields with what a caller must know."""

import re

from fastapi.routing import APIRoute

from service.routes import classify, encoders, generate, models, openai, tokenize
from service.runtime.parts import plugin_types
from tools.api_reference import reference

TEXT = "\n".join(reference())


def section(path: str) -> str:
    """What is said of a path that takes a body."""
    parts = re.split(r"^### ", TEXT, flags=re.MULTILINE)
    return next(part for part in parts if f"{path}`" in part.partition("\n")[0])


def test_every_described_route_is_there() -> None:
    core = [each.router for each in (generate, classify, encoders, openai, tokenize, models)]
    plugins = [router for kind in plugin_types().values() for router in kind.routers]
    routes = [route for router in [*core, tokenize.decoding, *plugins] for route in router.routes]
    described = [each for each in routes if isinstance(each, APIRoute) and each.include_in_schema]
    assert len(described) > 30
    named = {(each.path_format, method) for each in described for method in each.methods}
    assert {(path, method) for path, method in named if f"`{method} {path}`" not in TEXT} == set()


def test_a_field_has_its_type_bounds_and_default() -> None:
    lines = section("POST /v1/generate").splitlines()
    assert "- `model` (text, required): The base model or an adapter." in lines
    assert "- `temperature` (number 0 to 2): 0 is greedy." in lines
    assert "- `n` (integer, default 1): Answers to the same prompt." in lines


def test_fields_of_others_are_named_and_shared_ones_told_once() -> None:
    chat, completion = section("POST /v1/chat/completions"), section("POST /v1/completions")
    assert "`messages`" in chat
    assert "Shared with `POST /v1/completions`, `POST /v1/responses`" in chat
    assert "`temperature`" not in completion.partition("```")[0]


def test_an_example_is_shown_once_for_each_route() -> None:
    assert section("POST /v1/tokenize").count("```sh") == 2
    assert "```" not in section("POST /v1/decisions")
