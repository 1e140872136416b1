"""Training examples of lines: tokens, and the places at which answers are learnt."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from service.adapters.manifest import LabelSet
from service.classification.adapter_frame import AdapterFrame
from service.classification.classifier import Asked
from service.classification.scorer import Branch
from service.engine.protocol import Message
from service.errors import ConfigurationError, InvalidRequest
from training.config import FinetuneSettings
from training.lines import (
    CompletedLine,
    LabelledLine,
    Line,
    MultiLabelledLine,
    PlainLine,
)
from training.tokeniser import BaseTokeniser


@dataclass(frozen=True, slots=True)
class Choice:
    """A place to learn: after the token at `position`, `branch`'s alternative `chosen` is right."""

    position: int
    branch: Branch
    chosen: int


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence of tokens, and the answer to learn from it.

    The answer is in `choices` for labels of a language model, in every token from `answer_at` on
    for a text, and in `labels`, the indices of the true ones, for a head.
    """

    token_ids: tuple[int, ...]
    choices: tuple[Choice, ...] = ()
    answer_at: int = 0
    labels: tuple[int, ...] = ()
    label: str = ""
    weight: float = 1.0


class ExampleEncoder:
    """Makes examples from lines, with the prompts that serving uses."""

    def __init__(self, settings: FinetuneSettings, task: LabelSet | None) -> None:
        """Raise ConfigurationError for a base without tokenizer or labels that cannot be read."""
        self._tokeniser = BaseTokeniser(settings.base)
        self._piece = settings.data.max_tokens
        self._answer = settings.evaluation.max_tokens
        self._task = task
        self._frame = None
        if task is not None and settings.prompt is not None:
            try:
                self._frame = AdapterFrame(self._tokeniser, settings.prompt, task)
            except InvalidRequest as error:
                raise ConfigurationError(f"labels: {error.message}") from error

    def encode(self, lines: Sequence[Line]) -> list[Example]:
        """All examples of the lines."""
        return [example for line in lines for example in self._examples(line)]

    def tokens(self, line: Line) -> int:
        """Tokens of the line's longest example, prompt and answer together."""
        return max(len(example.token_ids) for example in self._examples(line))

    def asked_tokens(self, line: Line) -> int:
        """Tokens of context that measuring the line takes: prompt and longest answer."""
        match line:
            case LabelledLine() | MultiLabelledLine():
                return max(self._read_tokens(line.text, question) for question in self.questions)
            case CompletedLine():
                return len(self._prompt(line)) + self._answer
            case _:
                return 0

    def without_end(self, text: str, tokens: int) -> str:
        """The text without its last tokens; empty if it has no more."""
        ids = self._tokeniser.encode(text)
        return self._tokeniser.decode(ids[: max(0, len(ids) - tokens)])

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
    def questions(self) -> Sequence[Asked]:
        """The questions that are asked of every text; only for a classification."""
        assert self._frame is not None
        return self._frame.questions

    def _choice(self, text: str, question: Asked, said: str, label: str) -> Example:
        """An example with a choice wherever other labels leave this label's path in the trie."""
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

    def _read_tokens(self, text: str, question: Asked) -> int:
        assert self._frame is not None
        return question.scorer.tokens(self._frame.prompt(text, question))

    def _completion(self, line: CompletedLine) -> Example:
        """Prompt and answer, tokenised separately: the engine continues a prompt's tokens."""
        prompt = self._prompt(line)
        answer = [*self._tokeniser.encode(line.completion), self._tokeniser.end_token_id]
        return Example((*prompt, *answer), answer_at=len(prompt))

    def _prompt(self, line: CompletedLine) -> list[int]:
        tokeniser = self._tokeniser
        if line.messages is not None:
            return tokeniser.encode_chat([Message(m.role, m.content) for m in line.messages])
        return [*tokeniser.start_token_ids, *tokeniser.encode_template(line.prompt or "")]

    def _pieces(self, text: str) -> Iterator[Example]:
        tokeniser = self._tokeniser
        start = tokeniser.start_token_ids or (tokeniser.end_token_id,)
        ids = [*tokeniser.encode(text), tokeniser.end_token_id]
        room = self._piece - len(start)
        for at in range(0, len(ids), room):
            yield Example((*start, *ids[at : at + room]), answer_at=len(start))


def balanced(examples: Sequence[Example]) -> list[Example]:
    """The examples, weighted so that every label's weights sum to the same; their mean is 1."""
    counts = Counter(example.label for example in examples)
    return [
        replace(example, weight=len(examples) / (len(counts) * counts[example.label]))
        for example in examples
    ]
