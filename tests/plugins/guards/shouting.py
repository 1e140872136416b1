"""A guard of answers for tests."""

from service.errors import OutputFlagged
from service.plugins.guards.held import TextGuard


class Shouting(TextGuard):
    """A guard that refuses `secret` and writes all else in capitals."""

    def __init__(self) -> None:
        self.read_texts: list[tuple[str, bool]] = []
        self.waits = 0

    async def read(self, text: str, *, structured: bool) -> str:
        self.read_texts.append((text, structured))
        if "secret" in text:
            raise OutputFlagged
        return text.upper()

    def held(self, seconds: float) -> None:
        self.waits += 1
