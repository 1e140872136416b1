"""Training examples made from lines: tokens, and the positions at which answers are learnt."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoTokenizer

from service.adapters.classifier import AdapterFrame
from service.adapters.manifest import LabelSet
from service.classification.classifier import Asked
from service.engine.texts import Message
from service.errors import ConfigurationError, InvalidRequest
from service.models.encoder import check_base_of_head
from service.models.passages import PassageReader
from service.models.tokenizer import ChatText, ChatTexts, text_encoder
from service.settings.tree import ModelSettings
from training.config import FinetuneSettings
from training.lines import (
    CompletedLine,
    LabelledLine,
    Line,
    MultiLabelledLine,
    PlainLine,
)


class Alternative(NamedTuple):
    """Tokens that may follow at a branch, and the indices of the labels that remain after them."""

    token_ids: tuple[int, ...]
    labels: tuple[int, ...]


class Branch(NamedTuple):
    """A position where labels differ: one of the `alternatives` follows `prefix`."""

    prefix: tuple[int, ...]
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A training target: after the token at `position`, alternative `chosen` is right."""

    position: int
    branch: Branch
    chosen: int


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence of tokens, and the answer to learn from it.

    For a language model with labels the answer is in `choices`; for generated text it is every
    token from `answer_at` on; for a head it is `labels`, the indices of the true labels.
    """

    token_ids: tuple[int, ...]
    choices: tuple[Choice, ...] = ()
    answer_at: int = 0
    labels: tuple[int, ...] = ()
    label: str = ""
    weight: float = 1.0


class ExampleEncoder:
    """Makes examples from lines, with the same prompts as in serving."""

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
        """Tokens of context needed to measure the line: its prompt and the longest answer."""
        match line:
            case LabelledLine() | MultiLabelledLine():
                return max(self._read_tokens(line.text, question) for question in self.questions)
            case CompletedLine():
                return len(self._prompt(line)) + self._answer
            case _:
                return 0

    def without_end(self, text: str, tokens: int) -> str:
        """The text shortened from its end by so many tokens; empty if it has no more."""
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
        prompt = tuple(self._frame.prompt(text, question))
        wanted = question.scorer.trie.names.index(said)
        choices = []
        path: tuple[int, ...] = ()
        for prefix, alternatives in question.scorer.trie.nodes:
            branch = Branch(prefix, tuple(Alternative(*each) for each in alternatives))
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


def balance(examples: Sequence[Example]) -> list[Example]:
    """The examples, weighted so that each label has the same total weight; the mean weight is 1."""
    counts = Counter(example.label for example in examples)
    return [
        replace(example, weight=len(examples) / (len(counts) * counts[example.label]))
        for example in examples
    ]


class BaseTokeniser:
    """Tokenises as the engine does; implements `engine.texts.Vocabulary`."""

    def __init__(self, base: ModelSettings) -> None:
        folder = base.path
        self._chat = {**base.chat_template_kwargs, "add_generation_prompt": True}
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"base.path: no tokenizer in {folder}: {error}") from error
        self._apply = self._tokenizer.apply_chat_template
        if base.special_tokens_in_messages == "text":
            self._apply = ChatTexts(self._tokenizer, base.chat_template_kwargs).apply
        self.encode = text_encoder(self._tokenizer, special_is_text=True)
        self.encode_template = text_encoder(self._tokenizer, special_is_text=False)
        self.start_token_ids = tuple(self._tokenizer.encode(""))
        end: int | None = self._tokenizer.eos_token_id
        if end is None:
            raise ConfigurationError(f"base.path: the tokenizer in {folder} has no end token")
        self.end_token_ids = (end,)

    @property
    def end_token_id(self) -> int:
        """The token that ends an answer."""
        return self.end_token_ids[0]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """A conversation in the base's chat template, ready for the answer."""
        conversation = [{"role": each.role, "content": each.content} for each in messages]
        text: str = self._apply(conversation, **{**self._chat, "tokenize": False})
        return text.ids(False) if isinstance(text, ChatText) else self.encode_template(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids."""
        text: str = self._tokenizer.decode(list(token_ids))
        return text


SENTENCE_FILE = "sentence_bert_config.json"
"""File of sentence-transformers from which vLLM takes the longest text and lower case."""


class HeadEncoder:
    """Makes examples with the same tokenisation as in serving; implements `prepare.LineEncoder`."""

    def __init__(self, settings: FinetuneSettings, task: LabelSet) -> None:
        """Raise ConfigurationError for a base that cannot be trained with a head.

        Also for `data.max_tokens` above the number of tokens that the encoder reads.
        """
        base, limit = settings.base.path, settings.data.max_tokens
        check_base_of_head(base)
        stated = _sentence_config(base)
        try:
            tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
            lower = bool(stated.get("do_lower_case"))
            self._reader = PassageReader(tokenizer, lower=lower)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"base.path: no tokenizer in {base}: {error}") from error
        most = min(stated.get("max_seq_length") or limit, tokenizer.model_max_length)
        if limit > most:
            raise ConfigurationError(
                f"data.max_tokens: {limit} is more than the {most} tokens that the encoder reads"
            )
        self._tokenizer = tokenizer
        self._places = {name: place for place, name in enumerate(task.labels)}

    def encode(self, lines: Sequence[Line]) -> list[Example]:
        return [self._example(line) for line in lines]

    def tokens(self, line: Line) -> int:
        return len(self._example(line).token_ids)

    def asked_tokens(self, line: Line) -> int:
        return self.tokens(line)

    def without_end(self, text: str, tokens: int) -> str:
        offsets = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        kept = offsets["offset_mapping"][:-tokens]
        return text[: kept[-1][1]] if kept else ""

    def _example(self, line: Line) -> Example:
        assert isinstance(line, LabelledLine | MultiLabelledLine)
        return Example(
            tuple(self._reader.read(line.text).token_ids),
            labels=tuple(self._places[name] for name in line.labelled),
            label="+".join(line.labelled),
        )


def _sentence_config(folder: Path) -> dict[str, Any]:
    file = folder / SENTENCE_FILE
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"base.path: {SENTENCE_FILE}: not JSON: {error}") from error
    return found if isinstance(found, dict) else {}
