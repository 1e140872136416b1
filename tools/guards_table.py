"""The list of docs/guards.md: the fields of bodies that input guards read."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from service.openai.chat import ChatBody
from service.openai.completion import CompletionBody
from service.plugins.decisions.body import DecisionsBody
from service.plugins.decisions.systemone import SystemOneBody
from service.plugins.guards.fields import GUARDED, READ
from service.plugins.messages.body import MessagesBody
from service.plugins.responses.body import ResponseBody
from service.routes.classify_bodies import ClassifyRequest
from service.routes.generate_bodies import GenerateRequest
from tools.markdown_pages import item, page_with

PAGE = Path(__file__).parents[1] / "docs" / "guards.md"
FIELDS: Mapping[str, Iterable[str]] = {
    "/v1/generate": GenerateRequest.model_fields,
    "/v1/completions": CompletionBody.model_fields,
    "/v1/chat/completions": ChatBody.model_fields,
    "/v1/responses": ResponseBody.model_fields,
    "/v1/messages": MessagesBody.model_fields,
    "/v1/classify": ClassifyRequest.model_fields,
    "/v1/decisions": DecisionsBody.model_fields,
    "/v1/systemone": SystemOneBody.model_fields,
}
"""The fields of the routes' bodies."""


def page() -> str:
    """The page with the current list."""
    return page_with(PAGE, "fields", table())


def table() -> str:
    """A Markdown list of the fields that are read."""
    read = {name: f"{_routes(name)}: {what}" for name, what in READ.items()}
    lines = ["Guards read:", ""]
    lines += [item(f"{_names(names)} of {what}") for what, names in _grouped(read)]
    why = "They read no other field, and no body of another route ([why]({}))."
    lines += ["", why.format("../service/plugins/guards/fields.py")]
    return "\n".join(lines)


def _routes(field: str) -> str:
    having = [route for route in GUARDED if field in FIELDS[route]]
    return "every route" if len(having) == len(GUARDED) else _names(having)


def _grouped(table: Mapping[str, str]) -> Iterable[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for name, why in table.items():
        found.setdefault(why, []).append(name)
    return found.items()


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
