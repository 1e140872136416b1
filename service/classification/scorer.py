"""Exact label probabilities: the trie of the labels' tokens, and the queries for its nodes.

Constrained decoding over a label set walks the trie of the labels' token sequences: at every node
it may only emit a token that continues some label, so it samples from the model's next-token
distribution, renormalised over the node's alternatives. P(label) is the product of those branch
probabilities along the label's path. A node with one alternative has branch probability one and is
not read.

End of label. If one label is a prefix of another (" New", " New York"), the model either continues
or stops after the shorter one. A constrained decoder lets it stop by saying one of its end tokens,
so at such a node the end tokens stand beside the children, and the shorter label's share is the sum
of theirs. Elsewhere the end is forced: it has probability one and is not queried. So
`end_token_ids` must be the tokens that the engine's constrained decoding would accept there (for an
instruct model usually its one EOS). A label that contains an end token is refused, because the
decoder would stop at that token.

The distribution is over the given token sequences. A decoder constrained by characters rather than
tokens also lets the model spell a label in other tokens; those spellings are not counted here.
"""

import asyncio
import math
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from service.classification.calibration import Array, Calibration, label_log_probs
from service.classification.frame import (
    Encode,
    Label,
    TokenBoundary,
    read_labels,
    refused,
    shared_tokens,
    shown,
)
from service.common.aio import bounded_gather
from service.engine.contract import MAX_READ_IDS, Adapter, LabelLogprobs, Pooled
from service.engine.texts import LabelEngine
from service.errors import InvalidRequest, ServiceError

_Ids = tuple[int, ...]
_Node = tuple[_Ids, tuple[tuple[_Ids, _Ids], ...]]
"""A place where labels differ, and the alternatives that may follow it.

It is the tokens before the place, then for each alternative its tokens, which are one child or all
the end tokens, and the indices of the labels that remain if one of them is said.
"""


class Read(NamedTuple):
    """Ask the model for the log-probabilities of `token_ids` right after the prompt and `prefix`.

    They must be full-vocabulary log-probabilities at temperature 1, so that the parts of a node
    split over several reads are comparable.
    """

    prefix: tuple[int, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelTrie:
    """A label set ready to be scored: built once; run `reads` for each input, then `combine`.

    `names` are the labels. `nodes` are the branches, parents before children, as plain tuples:
    Python's garbage collector does not track tuples of numbers, so cached tries do not slow it
    down.
    """

    names: tuple[str, ...]
    nodes: tuple[_Node, ...]

    @classmethod
    def build(cls, labels: Sequence[Label], end_token_ids: Collection[int]) -> "LabelTrie":
        """The trie of the labels that `read_labels` gave.

        Raises InvalidRequest for two labels of one name or of the same tokens, a label with an end
        token in it, and a label that is a prefix of another when there is no end token to tell them
        apart.
        """
        ends = tuple(sorted(set(end_token_ids)))
        _check(labels, ends)
        return cls(tuple(label.name for label in labels), tuple(_nodes(labels, ends)))

    @property
    def reads(self) -> tuple[Read, ...]:
        """The fewest engine queries that determine the distribution; none for a single label.

        There is one for every MAX_READ_IDS alternatives of every branch, parents before children.
        """
        return tuple(
            Read(prefix, ids[start : start + MAX_READ_IDS])
            for prefix, alternatives in self.nodes
            for ids in [tuple(chain.from_iterable(token_ids for token_ids, _ in alternatives))]
            for start in range(0, len(ids), MAX_READ_IDS)
        )

    def combine(self, logprobs: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """The exact log P(label) of every label, in the order of `names`.

        `logprobs` answers `reads` one by one, each in the order of its `token_ids`. The
        probabilities sum to one. Raises ValueError when the answers do not have the shape of the
        reads, ServiceError when the model gave NaN, or no probability to any alternative.
        """
        if [len(row) for row in logprobs] != [len(read.token_ids) for read in self.reads]:
            raise ValueError("the log-probabilities do not have the shape of the trie's reads")
        values = chain.from_iterable(logprobs)
        totals = [0.0] * len(self.names)
        for _, alternatives in self.nodes:
            weights = [
                _log_sum_exp([next(values) for _ in token_ids]) for token_ids, _ in alternatives
            ]
            normaliser = _log_sum_exp(weights)
            if not math.isfinite(normaliser):
                raise ServiceError("The model gave no usable probability to any label.")
            for (_, labels), weight in zip(alternatives, weights, strict=True):
                for label in labels:
                    totals[label] += weight - normaliser
        return tuple(totals)


def _check(labels: Sequence[Label], ends: tuple[int, ...]) -> None:
    names: set[str] = set()
    spoken: dict[tuple[int, ...], str] = {}
    for label in labels:
        if label.name in names:
            raise refused(f"label {shown(label.name)} is given twice")
        names.add(label.name)
        if inside := set(ends).intersection(label.token_ids):
            raise refused(
                f"label {shown(label.name)} contains token {min(inside)}, which ends an answer"
            )
        other = spoken.setdefault(label.token_ids, label.name)
        if other != label.name:
            raise refused(
                f"labels {shown(other)} and {shown(label.name)} are the same tokens to this model"
            )


def _nodes(labels: Sequence[Label], ends: tuple[int, ...]) -> list[_Node]:
    paths = [label.token_ids for label in labels]
    nodes: list[_Node] = []
    groups = deque([sorted(range(len(labels)), key=paths.__getitem__)])
    while groups:
        group = groups.popleft()
        if len(group) == 1:
            continue
        # Sorted, so the prefix that the first and last paths share is shared by the whole group.
        depth = shared_tokens(paths[group[0]], paths[group[-1]])
        prefix = paths[group[0]][:depth]
        ended = [index for index in group if len(paths[index]) == depth]
        children: dict[int, list[int]] = {}
        for index in group[len(ended) :]:
            children.setdefault(paths[index][depth], []).append(index)
        alternatives: list[tuple[_Ids, _Ids]] = [
            ((token,), tuple(rest)) for token, rest in children.items()
        ]
        if ended:
            if not ends:
                names = [shown(labels[index].name) for index in group[:2]]
                raise refused(
                    f"label {names[0]} begins label {names[1]}, and this model has no end token "
                    "to tell them apart"
                )
            alternatives.append((ends, tuple(ended)))
        nodes.append((prefix, tuple(alternatives)))
        groups.extend(children.values())
    return nodes


def _log_sum_exp(values: list[float]) -> float:
    peak = max(values)
    if len(values) == 1 or not math.isfinite(peak):
        return peak
    return peak + math.log(math.fsum(math.exp(value - peak) for value in values))


MAX_LABEL_TOKENS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Result of one prompt's reads.

    `log_probs` holds log P(label) of every label, in their order. A prompt's tokens count once for
    each read, mostly as cached. `mass` is the probability of the tokens with which labels begin
    among all tokens, and `begins` is true if the likeliest token of all is one of them.
    """

    log_probs: Array
    prompt_tokens: int
    cached_tokens: int
    mass: float = 1.0
    begins: bool = True


def calibrate(
    answers: Sequence[Score | Pooled],
    rows: Array,
    calibration: Calibration,
    *,
    multi_label: bool,
) -> Score:
    """The calibrated score of one input, from the `rows` that these answers gave."""
    return Score(
        log_probs=label_log_probs(calibration.apply(rows), multi_label=multi_label),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        cached_tokens=sum(answer.cached_tokens for answer in answers),
    )


class LabelScorer:
    """Scores labels after prompts of one template; `tail` is its text after the input.

    `words` pairs each label's public name with the text the model says, directly after the tail
    (`frame.spell` offers one). Raises InvalidRequest for a tail or labels that cannot be read; see
    `TokenBoundary.find`, `read_labels` and `LabelTrie.build`.
    """

    def __init__(
        self,
        encode: Encode,
        tail: str,
        words: Sequence[tuple[str, str]],
        end_token_ids: Sequence[int],
    ) -> None:
        self._boundary = TokenBoundary.find(encode, tail)
        labels = read_labels(encode, self._boundary.context, words, max_tokens=MAX_LABEL_TOKENS)
        self.trie = LabelTrie.build(labels, end_token_ids)
        self.reads = len(self.trie.reads)
        """Engine requests that one prompt takes."""
        self._deepest = max((len(prefix) for prefix, _ in self.trie.nodes), default=0)

    async def score(
        self,
        engine: LabelEngine,
        prompt: list[int],
        adapter: Adapter | None = None,
        slots: asyncio.Semaphore | None = None,
    ) -> Score:
        """The exact log P(label) of every label, not calibrated.

        Runs the reads that decide the labels, each in a slot of its own, and at most as many at one
        time as the engine runs sequences.

        `slots` bounds how many reads run or wait for admission at one time, for all calls that
        share it. The first read that fails cancels the others and is raised. Raises InvalidRequest
        when the prompt is too long for the reads, ServiceError when it does not end as the template
        does.
        """
        self._check(prompt, engine.model.max_model_len)
        reads = self.trie.reads

        async def ask(read: Read) -> LabelLogprobs:
            longer = [*prompt, *read.prefix] if read.prefix else prompt
            async with slots or nullcontext():
                return await engine.label_logprobs(longer, read.token_ids, adapter)

        if len(reads) == 1:
            # The common case, which saves a task per input.
            answers = [await ask(reads[0])]
        else:
            answers = await bounded_gather(ask, reads, engine.model.max_num_seqs)
        found = self.trie.combine([answer.logprobs for answer in answers])
        root = [
            (read.token_ids, answer)
            for read, answer in zip(reads, answers, strict=True)
            if read.prefix == reads[0].prefix
        ]
        return Score(
            log_probs=np.array(found),
            prompt_tokens=sum(answer.prompt_tokens for answer in answers),
            cached_tokens=sum(answer.cached_tokens for answer in answers),
            mass=sum(math.exp(each) for _, answer in root for each in answer.logprobs),
            begins=any(answer.likeliest in token_ids for token_ids, answer in root),
        )

    def tokens(self, prompt: list[int]) -> int:
        """Tokens of context that the longest read of a prompt needs."""
        return len(prompt) + self._deepest + 1

    def _check(self, prompt: list[int], limit: int) -> None:
        if self.tokens(prompt) > limit:
            raise InvalidRequest(
                f"input: {len(prompt)} tokens with its instruction and "
                f"{self._deepest + 1} of the labels are more than the model's context of {limit}",
                code="context_length_exceeded",
                param="input",
            )
        if not self._boundary.joins(prompt):
            raise ServiceError("The prompt does not end as its template does.")
