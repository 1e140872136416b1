"""The lists of docs/guards.md: the fields of bodies that input guards read, and why no others."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from service.openai.chat import ChatBody
from service.openai.completion import CompletionBody
from service.plugins.decisions.body import DecisionsBody
from service.plugins.decisions.systemone import SystemOneBody
from service.plugins.guards.fields import GUARDED, NUMBER, READ, UNGUARDED, UNREAD, UNREAD_WITHIN
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
    """The page with the current lists."""
    return page_with(PAGE, "fields", table())


def table() -> str:
    """Markdown lists of the fields that are read, of those that are not, and of other routes."""
    read = {name: f"{_routes(name)}: {what}" for name, what in READ.items()}
    lines = ["Guards read:", ""]
    lines += [item(f"{_names(names)} of {what}") for what, names in _grouped(read)]
    lines += ["", "They do not read:", ""]
    lines += _by_reason({name: why for name, why in UNREAD.items() if why != NUMBER})
    lines += [item(f"all other fields: {NUMBER}")]
    lines += [
        item(f"within the above {_names(names)}: {why}") for why, names in _grouped(UNREAD_WITHIN)
    ]
    lines += ["", "No guard reads bodies of:", ""]
    lines += _by_reason(UNGUARDED)
    return "\n".join(lines)


def _routes(field: str) -> str:
    having = [route for route in GUARDED if field in FIELDS[route]]
    return "every route" if len(having) == len(GUARDED) else _names(having)


def _by_reason(table: Mapping[str, str]) -> list[str]:
    return [item(f"{_names(names)}: {why}") for why, names in _grouped(table)]


def _grouped(table: Mapping[str, str]) -> Iterable[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for name, why in table.items():
        found.setdefault(why, []).append(name)
    return found.items()


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
