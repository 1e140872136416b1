"""Items of a response's output, whole or while they are written."""

from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import uuid4

Fields = dict[str, Any]


class Item:
    """An item of the output, by its text so far; `of` is what its events are named after."""

    prefix: ClassVar[str]
    of: ClassVar[str]
    place: ClassVar[Fields] = {"content_index": 0}

    def __init__(self, text: str = "") -> None:
        self.id = f"{self.prefix}_{uuid4().hex[:16]}"
        self._texts = [text]

    @property
    def text(self) -> str:
        """All that was added."""
        return "".join(self._texts)

    def add(self, text: str) -> None:
        """Write more of it."""
        self._texts.append(text)

    def part(self) -> Fields | None:
        """The one part of its content, None if it has no parts."""

    def told(self) -> Fields:
        """The text, as the event says it that ends it."""
        return {"text": self.text}

    def shown(self, status: str) -> Fields:
        """The item as an object."""
        raise NotImplementedError


class Message(Item):
    """Text for the user, with log-probabilities if they were asked for."""

    prefix, of = "msg", "output_text"

    def __init__(self, text: str = "", logprobs: Sequence[Fields] = ()) -> None:
        super().__init__(text)
        self._logprobs = [*logprobs]

    def add_logprobs(self, logprobs: Sequence[Fields]) -> list[Fields]:
        """Write more log-probabilities; returns them as the event of a delta tells them."""
        self._logprobs += logprobs
        return [
            {**_without_bytes(each), "top_logprobs": [*map(_without_bytes, each["top_logprobs"])]}
            for each in logprobs
        ]

    def part(self) -> Fields:
        text = self.text
        logprobs = self._logprobs or (None if text else [])
        return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}

    def told(self) -> Fields:
        return {"text": self.text, "logprobs": []}

    def shown(self, status: str) -> Fields:
        content = [self.part()] if self.text else []
        whole = {"id": self.id, "content": content, "role": "assistant", "status": status}
        return whole | {"type": "message", "phase": None}


class Reasoning(Item):
    """Thoughts."""

    prefix, of = "rs", "reasoning_text"

    def part(self) -> Fields:
        return {"text": self.text, "type": "reasoning_text"}

    def shown(self, status: str) -> Fields:
        content = [self.part()] if self.text else None
        whole = {"id": self.id, "summary": [], "type": "reasoning", "content": content}
        return whole | {"encrypted_content": None, "status": status}


class Call(Item):
    """A call of a function, the one at `index` of an answer's."""

    prefix, of, place = "fc", "function_call_arguments", {}

    def __init__(self, index: int, call_id: str, name: str, arguments: str = "") -> None:
        super().__init__(arguments)
        self.index = index
        self._call_id = call_id
        self._name = name

    def told(self) -> Fields:
        return {"arguments": self.text, "name": self._name}

    def shown(self, status: str) -> Fields:
        whole = {"arguments": self.text, "call_id": self._call_id, "name": self._name}
        own = {"type": "function_call", "id": self.id, "status": status}
        return whole | own | dict.fromkeys(("async", "caller", "namespace"))


def _without_bytes(told: Fields) -> Fields:
    return {key: value for key, value in told.items() if key != "bytes"}
