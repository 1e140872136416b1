"""vLLM's sampler and adapter kernels beside the same in float64, on a GPU without vLLM.

    python -m tests.gpu_check.kernels /path/to/vllm

The argument is the folder of vLLM's package, unpacked; of other packages only torch, NumPy and
Triton are needed. Stops at the first kernel that is wrong and exits with 1. report.md in --out says
what each took at first, when it was compiled, and afterwards. With TRITON_INTERPRET=1 and `--device
cpu` Triton's interpreter runs them without a GPU, slowly: use a small --vocabulary and --hidden.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from tests.gpu_check.sources import MAX_LABELS, use_sources
from tests.gpu_check.steps import Findings, Step, take
from tools.command_line import command_line

_SECONDS = 300
_VOCABULARY = 151_936
_HIDDEN, _RANK, _SLOTS = 4096, 16, 4


class Timed(NamedTuple):
    """A kernel's result, and the seconds that it took at first and afterwards."""

    value: Any
    told: Findings


class Kernels:
    """The checks; tensors lie on `device`, with `vocabulary` tokens and layers `hidden` wide."""

    def __init__(self, device: str, vocabulary: int = _VOCABULARY, hidden: int = _HIDDEN) -> None:
        self._device, self._vocabulary, self._hidden = device, vocabulary, hidden
        self._random = torch.Generator(device).manual_seed(1)

    def steps(self) -> Iterator[Step]:
        """A step for each kernel and shape that compiles anew."""
        if self._device != "cpu":  # this one Triton's interpreter cannot run
            for rows in (1, 4, 65, 80):
                for cut in (("k",), ("p",), ("k", "p")):
                    name = f"top_{' and top_'.join(cut)} of {rows} rows"
                    yield Step(name, _SECONDS, partial(self.cut, rows, cut))
        yield Step("min_p", _SECONDS, self.min_p)
        yield Step("greedy choice", _SECONDS, self.greedy)
        for count in (0, 1, 5, 20):
            yield Step(f"{count} log-probabilities", _SECONDS, partial(self.logprobs, count))
        for count in (1, 2, 16, MAX_LABELS):
            name = f"label reads of {count} beside 5 log-probabilities"
            yield Step(name, _SECONDS, partial(self.labels, count))
        for tokens in (1, 7, 300):
            name = f"adapters of {tokens} tokens"
            yield Step(name, _SECONDS, partial(self.adapters, tokens))

    def cut(self, rows: int, cuts: tuple[str, ...]) -> Findings:
        """Tokens that top_k and top_p leave; at the edge of top_p one may differ by rounding."""
        from vllm.v1.sample.ops.topk_topp_triton import apply_top_k_top_p_triton

        logits = self._logits(rows)
        k = torch.arange(5, 5 + rows, device=self._device, dtype=torch.int32)
        p = torch.linspace(0.2, 0.95, rows, device=self._device)
        k, p = (k if "k" in cuts else None), (p if "p" in cuts else None)
        found = self._timed(lambda: apply_top_k_top_p_triton(logits.clone(), k, p))
        kept = found.value.isfinite()
        assert torch.equal(found.value[kept], logits[kept]), "a logit was changed"
        lead = logits.double().sort(descending=True)
        order = torch.arange(self._vocabulary, device=self._device)
        allowed = torch.ones_like(kept)
        if k is not None:
            allowed &= order < k[:, None]
        if p is not None:
            shares = lead.values.masked_fill(~allowed, float("-inf")).softmax(1)
            allowed &= shares.cumsum(1) - shares < p.double()[:, None]
        wanted = torch.zeros_like(kept).scatter_(1, lead.indices, allowed)
        most = 0 if p is None else 1
        wrong = int((kept ^ wanted).sum(1).max())
        assert wrong <= most, f"{wrong} tokens of a row are kept or cut wrongly"
        return found.told

    def min_p(self) -> Findings:
        """Tokens whose probability is at least a part of the best one's."""
        from vllm.v1.worker.gpu.sample.min_p import apply_min_p

        logits, rows = self._logits(4), torch.arange(4, device=self._device, dtype=torch.int32)
        part = torch.tensor([0.0, 0.02, 0.1, 0.5], device=self._device)

        def run() -> torch.Tensor:
            changed = logits.clone()
            apply_min_p(changed, rows, part)
            return changed

        found = self._timed(run)
        exact = logits.double()
        wanted = exact >= exact.amax(1, keepdim=True) + part.double().log()[:, None]
        assert torch.equal(found.value.isfinite(), wanted), "other tokens are left"
        return found.told

    def greedy(self) -> Findings:
        """The best token of each row at temperature 0."""
        from vllm.v1.worker.gpu.sample.gumbel import gumbel_sample

        logits, rows = self._logits(5), torch.arange(5, device=self._device, dtype=torch.int32)
        none = torch.zeros(5, device=self._device)
        where = rows.long()
        found = self._timed(
            lambda: gumbel_sample(logits, rows, none, where, where, False, is_drafting=False)
        )
        assert torch.equal(found.value, logits.argmax(1)), "another token is chosen"
        return found.told

    def logprobs(self, count: int) -> Findings:
        """The sampled token's log-probability and those of the most likely ones."""
        from vllm.v1.worker.gpu.sample.logprob import compute_topk_scores

        logits = self._logits(3).bfloat16()
        sampled = torch.tensor([1, 7, 9], device=self._device)
        found = self._timed(lambda: compute_topk_scores(logits, count, sampled))
        exact = logits.double().log_softmax(1)
        scores, ids = found.value.logprobs, found.value.logprob_token_ids
        assert ids.shape == (3, 1 + count)
        assert torch.equal(ids[:, 0], sampled)
        _near(scores, exact.gather(1, ids))
        _near(scores[:, 1:], exact.topk(count).values)
        return found.told

    def labels(self, count: int) -> Findings:
        """A label read's own labels, and a neighbour's most likely tokens, in one batch."""
        from vllm.v1.worker.gpu.sample.logprob import compute_topk_scores

        logits = self._logits(2).float()
        wanted = torch.randperm(self._vocabulary, device=self._device)[:count]
        ids = torch.zeros(2, MAX_LABELS, device=self._device, dtype=torch.int32)
        ids[1, :count] = wanted.int()
        state = SimpleNamespace(
            token_ids=SimpleNamespace(gpu=ids),
            num_token_ids=SimpleNamespace(
                gpu=torch.tensor([0, count], device=self._device, dtype=torch.int32)
            ),
        )
        sampled = torch.tensor([3, 4], device=self._device)
        rows = torch.arange(2, device=self._device, dtype=torch.int32)
        found = self._timed(
            lambda: compute_topk_scores(logits, 5, sampled, None, state, rows, count)
        )
        exact, scores = logits.double().log_softmax(1), found.value.logprobs
        _near(scores[1, 1 : 1 + count], exact[1, wanted])
        _near(scores[0, 1:6], exact[0].topk(5).values)
        assert bool(scores[0, 6:].isneginf().all()), "the neighbour got more than it asked for"
        assert bool(scores[1, 1 + count :].isneginf().all()), "the read got more than its labels"
        return found.told

    def adapters(self, tokens: int) -> Findings:
        """Products of tokens of several adapters and of none, down to the rank and up again."""
        from vllm.lora.ops.triton_ops.lora_expand_op import lora_expand
        from vllm.lora.ops.triton_ops.lora_kernel_metadata import LoRAKernelMeta
        from vllm.lora.ops.triton_ops.lora_shrink_op import lora_shrink

        places = torch.arange(1, 1 + tokens, device=self._device, dtype=torch.int32)
        slots = (places % (_SLOTS + 1) - 1).flip(0)
        meta = LoRAKernelMeta.make(_SLOTS, tokens, self._device)
        meta.prepare_tensors(slots)
        x = self._weights(tokens, self._hidden)
        down = [self._weights(_SLOTS, 1, _RANK, self._hidden) for _ in range(2)]
        up = [self._weights(_SLOTS, 1, self._hidden, _RANK) for _ in range(2)]
        start = self._weights(tokens, 2 * self._hidden)

        def run() -> torch.Tensor:
            low = torch.empty(2, tokens, _RANK, device=self._device)
            lora_shrink(x, down, low, *meta.meta_args(tokens, False), 1.0)
            y = start.clone()
            lora_expand(low, up, y, *meta.meta_args(tokens, False), add_inputs=True)
            return y

        found = self._timed(run)
        wanted = start.double()
        for row, slot in enumerate(slots.tolist()):
            if slot >= 0:
                parts = [
                    b[slot, 0].double() @ (a[slot, 0].double() @ x[row].double())
                    for a, b in zip(down, up, strict=True)
                ]
                wanted[row] += torch.cat(parts)
        base = slots < 0
        assert torch.equal(found.value[base], start[base]), "a token without an adapter was changed"
        _near(found.value, wanted, relative=0.02)
        return found.told

    def _logits(self, rows: int) -> torch.Tensor:
        shape = (rows, self._vocabulary)
        return 3 * torch.randn(shape, generator=self._random, device=self._device)

    def _weights(self, *shape: int) -> torch.Tensor:
        found = torch.randn(shape, generator=self._random, device=self._device)
        # Triton's interpreter multiplies no bfloat16.
        kind = torch.float16 if self._device == "cpu" else torch.bfloat16
        return (found / shape[-1] ** 0.5).to(kind)

    def _timed(self, run: Callable[[], Any]) -> Timed:
        value, seconds = self._once(run)
        told = f"{seconds:.3f}"
        if self._device != "cpu":  # the interpreter compiles nothing at first
            value, seconds = self._once(run)
            told += f" at first, then {seconds:.5f}"
        return Timed(value, {"seconds": told})

    def _once(self, run: Callable[[], Any]) -> tuple[Any, float]:
        began = time.monotonic()
        value = run()
        if self._device == "cuda":
            torch.cuda.synchronize()
        return value, time.monotonic() - began


def _near(found: torch.Tensor, wanted: torch.Tensor, relative: float = 1e-5) -> None:
    """AssertionError for a difference beyond rounding."""
    torch.testing.assert_close(found.double(), wanted.double(), rtol=relative, atol=relative)


def versions() -> Findings:
    """Versions of what runs the kernels, and the card."""
    triton = import_module("triton")
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {"torch": torch.__version__, "triton": triton.__version__, "card": card}


def main() -> int:
    """Check every kernel; returns the exit code."""
    parser = command_line("tests.gpu_check.kernels", __doc__)
    parser.add_argument("vllm", type=Path, help="folder of vLLM's package")
    parser.add_argument("--out", type=Path, default=Path("dist/gpu-kernels"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--vocabulary", type=int, default=_VOCABULARY)
    parser.add_argument("--hidden", type=int, default=_HIDDEN)
    given = parser.parse_args()
    use_sources(given.vllm)
    kernels = Kernels(given.device, given.vocabulary, given.hidden)
    steps = [Step("versions", 60, versions), *kernels.steps()]
    taken = take(steps, given.out)
    print(f"the report is in {given.out / 'report.md'}")
    return int(any(each.failure for each in taken))


if __name__ == "__main__":
    sys.exit(main())
