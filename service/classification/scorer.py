"""A label set at a seam, ready to score prompts."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.classification.distribution import Array
from service.classification.label import Encode, read_labels
from service.classification.seam import Seam
from service.classification.trie import LabelTrie, Read
from service.engine.protocol import Adapter, LabelLogprobs, Prompt, Reader
from service.errors import InvalidRequest, ServiceError
from service.together import few_at_once

MAX_LABEL_TOKENS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Result of one prompt's reads.

    `log_probs` holds log P(label) of every label, in their order. The tokens are those of all
    `reads`: several reads of one prompt count it several times, mostly as cached.
    """

    log_probs: Array
    prompt_tokens: int
    cached_tokens: int
    reads: int


class LabelScorer:
    """Scores prompts of one template: build it once, score every prompt with it."""

    def __init__(self, seam: Seam, trie: LabelTrie) -> None:
        self._seam = seam
        self.trie = trie
        self.reads = len(trie.reads)
        """Engine requests that one prompt takes."""
        self._deepest = max((len(prefix) for prefix, _ in trie.nodes), default=0)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels' names, in the order of a score's log-probabilities."""
        return self.trie.names

    @classmethod
    def build(
        cls,
        encode: Encode,
        tail: str,
        words: Sequence[tuple[str, str]],
        end_token_ids: Sequence[int],
    ) -> "LabelScorer":
        """The scorer of the labels `words` after a template whose text after the input is `tail`.

        `words` pairs each label's public name with the text the model says, directly after the
        tail (`seam.spell` offers one). Raises InvalidRequest for a tail or labels that cannot be
        read; see `Seam.find`, `read_labels` and `LabelTrie.build`.
        """
        seam = Seam.find(encode, tail)
        labels = read_labels(encode, seam.context, words, max_tokens=MAX_LABEL_TOKENS)
        return cls(seam, LabelTrie.build(labels, end_token_ids))

    async def score(
        self,
        engine: Reader,
        prompt: Prompt,
        adapter: Adapter | None = None,
        slots: asyncio.Semaphore | None = None,
    ) -> Score:
        """The exact log P(label) of every label, not calibrated.

        Runs the reads that decide the labels, each under its own permit, and at most as many at one
        time as the engine runs sequences.

        `slots` bounds how many reads of its holders run or wait at the gate at one time. The
        first read that fails cancels the others and is raised. Raises InvalidRequest when the
        prompt is too long for the reads, ServiceError when it does not end as the template does.
        """
        self._check(prompt, engine.model.max_model_len)
        reads = self.trie.reads

        async def ask(read: Read) -> LabelLogprobs:
            return await _read(engine, prompt, read, adapter, slots)

        if len(reads) == 1:
            # The common case, which saves a task per input.
            answers = [await ask(reads[0])]
        else:
            answers = await few_at_once(ask, reads, engine.model.max_num_seqs)
        return Score(
            log_probs=np.array(self.trie.fold([answer.logprobs for answer in answers])),
            prompt_tokens=sum(answer.prompt_tokens for answer in answers),
            cached_tokens=sum(answer.cached_tokens for answer in answers),
            reads=len(answers),
        )

    def tokens(self, prompt: Prompt) -> int:
        """Tokens that the longest read of a prompt takes of the model's context."""
        return len(prompt.token_ids) + self._deepest + 1

    def _check(self, prompt: Prompt, limit: int) -> None:
        if self.tokens(prompt) > limit:
            raise InvalidRequest(
                f"input: {len(prompt.token_ids)} tokens with its instruction and "
                f"{self._deepest + 1} of the labels are more than the model's context of {limit}",
                code="context_length_exceeded",
                param="input",
            )
        if not self._seam.joins(prompt.token_ids):
            raise ServiceError("The prompt does not end as its template does.")


async def _read(
    engine: Reader,
    prompt: Prompt,
    read: Read,
    adapter: Adapter | None,
    slots: asyncio.Semaphore | None,
) -> LabelLogprobs:
    longer = Prompt([*prompt.token_ids, *read.prefix]) if read.prefix else prompt
    if slots is None:
        return await engine.label_logprobs(longer, read.token_ids, adapter)
    async with slots:
        return await engine.label_logprobs(longer, read.token_ids, adapter)
