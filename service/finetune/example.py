"""Lines as the model is trained on them: tokens, and what it must say where."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from service.adapters.manifest import Classification
from service.classification.adapter_frame import AdapterFrame, AdapterQuestion
from service.classification.trie import Branch
from service.engine.protocol import Message
from service.errors import ConfigurationError
from service.finetune.config import FinetuneSettings
from service.finetune.lines import (
    CompletedLine,
    LabelledLine,
    Line,
    MultiLabelledLine,
    PlainLine,
)
from service.finetune.tokeniser import BaseTokeniser


@dataclass(frozen=True, slots=True)
class Choice:
    """After the token at `position`, alternative `chosen` of `branch` must be said."""

    position: int
    branch: Branch
    chosen: int


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence. Either `choices` of labels, or every token from `answer_at` on, are learnt."""

    token_ids: tuple[int, ...]
    choices: tuple[Choice, ...] = ()
    answer_at: int = 0
    label: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Encoded:
    """The examples of some lines, and how many lines were over-long and what became of them."""

    examples: Sequence[Example]
    dropped: int = 0
    truncated: int = 0


class ExampleEncoder:
    """Makes examples of lines, under the prompts that serving uses."""

    def __init__(
        self, tokeniser: BaseTokeniser, settings: FinetuneSettings, task: Classification | None
    ) -> None:
        self._tokeniser = tokeniser
        self._data = settings.data
        self._task = task
        self._frame = None
        if task is not None and settings.prompt is not None:
            self._frame = AdapterFrame(tokeniser, settings.prompt, task)

    def encode(self, lines: Sequence[Line]) -> Encoded:
        """All examples of the lines; ConfigurationError for over-long ones under `refuse`."""
        limit, policy = self._data.max_tokens, self._data.over_long
        examples: list[Example] = []
        over_long: list[tuple[Line, int]] = []
        for line in lines:
            made = list(self._examples(line))
            longest = max(len(each.token_ids) for each in made)
            if longest > limit:
                over_long.append((line, longest))
                made = []
                if policy == "truncate":
                    made = list(self._examples(self._shortened(line, longest)))
            examples.extend(made)
        count = len(over_long)
        if over_long and policy == "refuse":
            worst, longest = max(over_long, key=lambda each: each[1])
            raise ConfigurationError(
                f"data: {count} of {len(lines)} lines have more than data.max_tokens {limit} "
                f"tokens with their prompt and answer, the longest {longest}: {worst.key!r:.80}; "
                "raise the limit or choose data.over_long"
            )
        return Encoded(
            examples,
            dropped=count if policy == "drop" else 0,
            truncated=count if policy == "truncate" else 0,
        )

    def _examples(self, line: Line) -> Iterator[Example]:
        match line:
            case LabelledLine():
                (question,) = self.questions
                yield self._choice(line.text, question, line.label, line.label)
            case MultiLabelledLine():
                assert self._task is not None
                for name, question in zip(self._task.labels, self.questions, strict=True):
                    said = "yes" if name in line.labels else "no"
                    yield self._choice(line.text, question, said, f"{name}: {said}")
            case CompletedLine():
                yield self._completion(line)
            case PlainLine():
                yield from self._pieces(line.text)

    @property
    def questions(self) -> Sequence[AdapterQuestion]:
        """What is asked of every text; only for a classification."""
        assert self._frame is not None
        return self._frame.questions

    def _choice(self, text: str, question: AdapterQuestion, said: str, label: str) -> Example:
        """The places on the label's path where others part from it, and no token beyond them."""
        assert self._frame is not None
        prompt = tuple(self._frame.prompt(text, question).token_ids)
        wanted = question.scorer.names.index(said)
        choices = []
        path: tuple[int, ...] = ()
        for branch in question.scorer.trie.branches:
            for number, alternative in enumerate(branch.alternatives):
                if wanted in alternative.labels:
                    path = max(path, branch.prefix, key=len)
                    position = len(prompt) + len(branch.prefix) - 1
                    choices.append(Choice(position, branch, number))
        return Example(prompt + path, tuple(choices), label=label)

    def _completion(self, line: CompletedLine) -> Example:
        """Prompt and answer are tokenised apart, as the engine goes on from a prompt's tokens."""
        tokeniser = self._tokeniser
        if line.messages is not None:
            prompt = tokeniser.encode_chat([Message(m.role, m.content) for m in line.messages])
        else:
            prompt = [*tokeniser.start_token_ids, *tokeniser.encode_template(line.prompt or "")]
        answer = [*tokeniser.encode(line.completion), tokeniser.end_token_id]
        return Example((*prompt, *answer), answer_at=len(prompt))

    def _pieces(self, text: str) -> Iterator[Example]:
        tokeniser = self._tokeniser
        start = tokeniser.start_token_ids or (tokeniser.end_token_id,)
        ids = [*tokeniser.encode(text), tokeniser.end_token_id]
        room = self._data.max_tokens - len(start)
        for at in range(0, len(ids), room):
            yield Example((*start, *ids[at : at + room]), answer_at=len(start))

    def _shortened(self, line: Line, longest: int) -> Line:
        """A line whose text lost its end, until its longest example fits."""
        assert isinstance(line, LabelledLine | MultiLabelledLine)
        ids = self._tokeniser.encode(line.text)
        keep = len(ids) - (longest - self._data.max_tokens)
        while keep > 0:
            shorter = line.model_copy(update={"text": self._tokeniser.decode(ids[:keep])})
            if max(len(e.token_ids) for e in self._examples(shorter)) <= self._data.max_tokens:
                return shorter
            keep -= 1  # half a character, or other tokens at the new seam
        raise ConfigurationError(
            f"data.max_tokens: {self._data.max_tokens} leaves no room for a text beside the prompt"
        )


def balanced(examples: Sequence[Example]) -> list[Example]:
    """The examples, weighted so that every label's weights sum to the same; their mean is 1."""
    counts = Counter(example.label for example in examples)
    return [
        replace(example, weight=len(examples) / (len(counts) * counts[example.label]))
        for example in examples
    ]
