"""The label trie: the next-token reads that decide a label, and the probabilities they give.

Constrained decoding over a label set walks the trie of the labels' token sequences: at every node
it may only say a token that continues some label, so it samples from the model's next-token
distribution renormalised over the node's alternatives. P(label) is the product of those branch
probabilities along the label's path. A node with one alternative has branch probability one and
is not read.

End of label. Where one label is a prefix of another (" New", " New York"), having said the shorter
the model either continues or stops. A constrained decoder lets it stop by saying one of its end
tokens, so at such a node the end tokens stand beside the children, and the shorter label's share
is the sum of theirs. Elsewhere the end is forced, has probability one and costs nothing. The
`end_token_ids` must therefore be those the engine's constrained decoding would accept at this
place (for an instruct model usually its one EOS); an end token inside a label is refused, since
the decoder would stop there and the label could not be said.

The distribution is over the given token sequences. A decoder constrained by characters rather than
tokens also lets the model spell a label in other tokens; those spellings are not counted here.
"""

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from service.classification.label import Label, refused, shared_tokens, shown
from service.engine.protocol import MAX_READ_IDS
from service.errors import ServiceError

_Ids = tuple[int, ...]
_Node = tuple[_Ids, tuple[tuple[_Ids, _Ids], ...]]
"""A branch: its prefix, and each alternative's tokens and labels."""


class Read(NamedTuple):
    """Ask the model for the log-probabilities of `token_ids` right after the prompt and `prefix`.

    They must be full-vocabulary log-probabilities at temperature 1, so that the parts of a node
    split over several reads are comparable.
    """

    prefix: tuple[int, ...]
    token_ids: tuple[int, ...]


class Alternative(NamedTuple):
    """Token that may follow at a branch, and the labels that remain if it does."""

    token_ids: tuple[int, ...]  # one child, or all the end tokens
    labels: tuple[int, ...]  # indices of the labels that remain when it is said


class Branch(NamedTuple):
    """A place where labels differ: one of the `alternatives` follows `prefix`."""

    prefix: tuple[int, ...]
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class LabelTrie:
    """A label set ready to be scored: build once, run `reads` for every input, `fold` the answers.

    `names` are the labels. `nodes` are the branches as plain tuples, parents before children:
    Python's collector passes over tuples of numbers, so however many tries are kept, a collection
    takes no longer.
    """

    names: tuple[str, ...]
    nodes: tuple[_Node, ...]

    @classmethod
    def build(cls, labels: Sequence[Label], end_token_ids: Collection[int]) -> "LabelTrie":
        """The trie of `labels`.

        Raises InvalidRequest for an empty set, two labels of one name or of the same tokens, a
        label without tokens or with an end token in it, and a label that is a prefix of another
        when there is no end token to tell them apart.
        """
        ends = tuple(sorted(set(end_token_ids)))
        _check(labels, ends)
        return cls(tuple(label.name for label in labels), tuple(_nodes(labels, ends)))

    @property
    def reads(self) -> tuple[Read, ...]:
        """The fewest reads that determine the distribution; none for a single label.

        They are one for every MAX_READ_IDS alternatives of every branch, parents before children.
        """
        return tuple(
            Read(prefix, ids[start : start + MAX_READ_IDS])
            for prefix, alternatives in self.nodes
            for ids in [tuple(chain.from_iterable(token_ids for token_ids, _ in alternatives))]
            for start in range(0, len(ids), MAX_READ_IDS)
        )

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The places where labels differ, parents before children."""
        return tuple(
            Branch(prefix, tuple(Alternative(*each) for each in alternatives))
            for prefix, alternatives in self.nodes
        )

    def fold(self, logprobs: Sequence[Sequence[float]]) -> tuple[float, ...]:
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
    if not labels:
        raise refused("no labels given; at least 1 is needed")
    names: set[str] = set()
    spoken: dict[tuple[int, ...], str] = {}
    for label in labels:
        if label.name in names:
            raise refused(f"label {shown(label.name)} is given twice")
        names.add(label.name)
        if not label.token_ids:
            raise refused(f"label {shown(label.name)} has no tokens")
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
        # In sorted order, the first and the last path differ where the group first does.
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
