"""Answers after the guards of a tenant's policy have read them."""

from service.context import RequestContext
from service.errors import OutputFlagged
from service.generation.sentences import sentences
from service.plugins.guards.policies import Policies, note
from service.plugins.guards.settings import PolicySettings

MARKER = "[redacted]"


class GuardedAnswer:
    """Reads the answer of one request; implements `AnswerGuard`.

    An answer with `tools` or of a structure cannot be redacted in parts, so it is refused instead.
    """

    def __init__(
        self, policies: Policies, policy: PolicySettings, context: RequestContext, *, tools: bool
    ) -> None:
        self._policies = policies
        self._policy = policy
        self._context = context
        self._tools = tools

    async def read(self, text: str, *, structured: bool) -> str:
        redacts = self._policy.on == "redact" and not structured and not self._tools
        pieces = sentences(text) if redacts else [text]
        read = [each for each in pieces if each.strip()]
        found = await self._policies.flags("output", read, self._policy, self._context)
        flagged = [flag for flags in found for flag in flags]
        if not flagged:
            return text
        if self._policy.on == "flag":
            note(self._context, flagged)
            return text
        if not redacts:
            name, label = flagged[0]
            raise OutputFlagged(f"The answer was refused: the guard {name!r} found {label!r}")
        marked = {each for each, flags in zip(read, found, strict=True) if flags}
        return "".join(_marked(each) if each in marked else each for each in pieces)

    def held(self, seconds: float) -> None:
        self._policies.metrics.held(seconds)


def _marked(piece: str) -> str:
    """The marker, with the space around the piece."""
    begin, end = len(piece) - len(piece.lstrip()), len(piece.rstrip())
    return f"{piece[:begin]}{MARKER}{piece[end:]}"
