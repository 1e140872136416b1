"""Kinds of traffic to an LLM service: the contents of their requests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from loadtests.load.lengths import Fixed, Lengths
from loadtests.load.prompts import read_prompts
from loadtests.load.text import Message, Segment

Rng = np.random.Generator

# The first number of a segment's key gives each family different texts.
_UNIQUE, _SYSTEM, _TREE, _DOCUMENT, _INPUT = range(5)

Task = Literal["generate", "classify", "embed"]


@dataclass(frozen=True, slots=True)
class Content:
    """A prompt in segments (system first, the user's last), messages, or texts of a batch."""

    system: tuple[Segment, ...] = ()
    user: tuple[Segment, ...] = ()
    inputs: tuple[Segment, ...] = ()
    messages: tuple[Message, ...] = ()
    max_tokens: int = 0

    @property
    def prompt(self) -> tuple[Segment, ...]:
        return self.system + self.user


class Cancellation(BaseModel):
    """A share of requests whose client disconnects after some chunks of the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(gt=0, le=1)
    after_chunks: Lengths = Fixed(tokens=4)


class Workload(BaseModel):
    """One kind of traffic, with its `weight` in the mix; `seed` and `index` decide the content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: ClassVar[Task] = "generate"

    name: str | None = None
    weight: PositiveFloat = 1.0
    extra: dict[str, Any] = Field(default_factory=dict, description="Fields added to the body")
    cancel: Cancellation | None = None

    @property
    def label(self) -> str:
        """Name in the results."""
        return self.name or str(getattr(self, "kind", ""))

    def content(self, seed: int, index: int, rng: Rng) -> Content:
        raise NotImplementedError


class Conversation(Workload):
    """A system prompt that all requests share, then different words in each."""

    system_tokens: int = Field(default=0, ge=0)
    input: Lengths
    output: Lengths

    def content(self, seed: int, index: int, rng: Rng) -> Content:
        return Content(
            system=_shared(Segment((seed, _SYSTEM), self.system_tokens)),
            user=(Segment((seed, _UNIQUE, index), self.input.sample(rng)),),
            max_tokens=self.output.sample(rng),
        )


class Chat(Conversation):
    """One question."""

    kind: Literal["chat"] = "chat"


class Session(Conversation):
    """Several turns, each with the whole conversation so far, after a pause of `think_s`."""

    kind: Literal["session"] = "session"
    turns: Lengths
    think_s: NonNegativeFloat = 1.0

    def next_words(self, seed: int, index: int, turn: int, rng: Rng) -> Segment:
        """Words of the user at a later turn."""
        return Segment((seed, _UNIQUE, index, turn), self.input.sample(rng))


class PrefixTree(Workload):
    """Prompts along paths of a tree: a share `hit_rate` of their tokens is on the tree.

    The shared tokens are spread evenly over `depth` levels with `branches` children at each node,
    so every prompt has the root, and one in branches^(depth-1) has a given leaf. An unlimited cache
    reaches the hit rate once every leaf was sent.
    """

    kind: Literal["prefix_tree"] = "prefix_tree"
    hit_rate: float = Field(gt=0, lt=1)
    depth: PositiveInt = 3
    branches: PositiveInt = 4
    input: Fixed
    output: Lengths

    def content(self, seed: int, index: int, rng: Rng) -> Content:
        shared = round(self.input.tokens * self.hit_rate)
        path: tuple[int, ...] = ()
        nodes = []
        for level in range(self.depth):
            tokens = shared * (level + 1) // self.depth - shared * level // self.depth
            nodes.append(Segment((seed, _TREE, level, *path), tokens))
            path += (int(rng.integers(self.branches)),)
        own = Segment((seed, _UNIQUE, index), self.input.tokens - shared)
        return Content(user=(*nodes, own), max_tokens=self.output.sample(rng))


class LongContext(Workload):
    """A long document that no other request has, and a short question about it."""

    kind: Literal["long_context"] = "long_context"
    document: Lengths
    question_tokens: PositiveInt = 32
    output: Lengths

    def content(self, seed: int, index: int, rng: Rng) -> Content:
        document = Segment((seed, _UNIQUE, index, 0), self.document.sample(rng))
        question = Segment((seed, _UNIQUE, index, 1), self.question_tokens)
        return Content(user=(document, question), max_tokens=self.output.sample(rng))


class Retrieval(Workload):
    """Instructions, then `chunks` passages of Zipf-distributed popularity, then a question."""

    kind: Literal["rag"] = "rag"
    instruction_tokens: int = Field(default=64, ge=0)
    corpus: PositiveInt = 1000
    exponent: PositiveFloat = 1.0
    chunks: PositiveInt = 4
    chunk_tokens: PositiveInt = 128
    question: Lengths
    output: Lengths

    def content(self, seed: int, index: int, rng: Rng) -> Content:
        odds = np.arange(1, self.corpus + 1, dtype=np.float64) ** -self.exponent
        count = min(self.chunks, self.corpus)
        picked = rng.choice(self.corpus, size=count, replace=False, p=odds / odds.sum())
        passages = [Segment((seed, _DOCUMENT, int(i)), self.chunk_tokens) for i in picked]
        question = Segment((seed, _UNIQUE, index), self.question.sample(rng))
        return Content(
            system=_shared(Segment((seed, _SYSTEM), self.instruction_tokens)),
            user=(*passages, question),
            max_tokens=self.output.sample(rng),
        )


class Batch(Workload):
    """A batch of texts, answered together."""

    batch: Lengths = Fixed(tokens=1)
    input: Lengths

    def content(self, seed: int, index: int, rng: Rng) -> Content:
        texts = range(self.batch.sample(rng))
        return Content(
            inputs=tuple(
                Segment((seed, _INPUT, index, text), self.input.sample(rng)) for text in texts
            )
        )


class Classify(Batch):
    """A batch of texts to classify; `labels` are sent where the model has none of its own."""

    task = "classify"

    kind: Literal["classify"] = "classify"
    labels: tuple[str, ...] = ()
    instruction: str = "Classify the text."


class Decide(Classify):
    """A text about which so many choices among `labels` are asked, each a question of its own."""

    kind: Literal["decide"] = "decide"  # type: ignore[assignment]
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    questions: PositiveInt = 1


class Embed(Batch):
    """A batch of texts of which an encoder makes embeddings."""

    task = "embed"

    kind: Literal["embed"] = "embed"


class Prompts(Workload):
    """Prompts of a file, drawn with equal probability: see load/prompts.py for its form."""

    kind: Literal["prompts"] = "prompts"
    path: Path
    output: Lengths

    @field_validator("path")
    @classmethod
    def _readable(cls, path: Path) -> Path:
        read_prompts(path)
        return path

    def content(self, seed: int, index: int, rng: Rng) -> Content:
        found = read_prompts(self.path)
        messages = found[int(rng.integers(len(found)))]
        return Content(messages=messages, max_tokens=self.output.sample(rng))


AnyWorkload = Annotated[
    Prompts | Chat | Session | PrefixTree | LongContext | Retrieval | Classify | Decide | Embed,
    Field(discriminator="kind"),
]


def replayed(seed: int, index: int, tokens: int, blocks: tuple[int, ...], block: int) -> Content:
    """A traced prompt of `tokens` tokens: blocks of one hash share a text, the rest differs."""
    known = tuple(Segment((seed, _TREE, hash_id), block) for hash_id in blocks)
    known = known[: tokens // block]
    own = tokens - len(known) * block
    rest = (Segment((seed, _UNIQUE, index), own),) if own else ()
    return Content(user=known + rest)


def _shared(segment: Segment) -> tuple[Segment, ...]:
    return (segment,) if segment.tokens else ()
