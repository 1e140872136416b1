"""Our adapter operators against vLLM's own, over shapes, types, slots and orders."""

import inspect
import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from service.vllm.patches.adapter_operators import GroupedPunicaWrapper

TOLERANCE = {torch.float32: 1e-5, torch.float16: 8e-3, torch.bfloat16: 3e-2}
OVERRIDDEN = ("linear", "logits", "embedding")


@dataclass(frozen=True)
class Case:
    """A batch, by the slot of each token, and the shape of a layer."""

    slots: tuple[int, ...]
    max_loras: int = 3
    rank: int = 4
    width: int = 16
    outputs: tuple[int, ...] = (8, 4)
    dtype: torch.dtype = torch.float32
    weight_dtype: torch.dtype = torch.float32
    is_prefill: bool = True
    scale: float = 1.0

    def wrapper(self, kind: type) -> Any:
        """A wrapper that has the batch, set as vLLM sets it."""
        wrapper = kind(max(len(self.slots), 1), max_batches=len(self.slots), device="cpu")
        # An adapter's id is not its slot: slot s holds the adapter 100 + s.
        ids = tuple(100 + slot if slot >= 0 else 0 for slot in self.slots)
        loaded: list[int | None] = [100 + slot for slot in range(self.max_loras)]
        mapping = LoRAMapping(ids, ids, is_prefill=self.is_prefill)
        wrapper.update_metadata(mapping, loaded, self.max_loras + 1, 1000)
        return wrapper

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """Base outputs, inputs, and per slice the weights of one slot more than there are.

        That slot holds zeros: index -1 of vLLM's operators meets it, and ours never.
        """
        draw = torch.Generator().manual_seed(len(self.slots) + self.width)
        rows = len(self.slots)
        y = torch.randn(rows, sum(self.outputs), generator=draw).to(self.dtype)
        x = torch.randn(rows, self.width, generator=draw).to(self.dtype)
        down = [self._stacked(self.rank, self.width, draw) for _ in self.outputs]
        up = [self._stacked(out, self.rank, draw) for out in self.outputs]
        return y, x, down, up

    def _stacked(self, out: int, width: int, draw: torch.Generator) -> torch.Tensor:
        weights = torch.randn(self.max_loras + 1, 1, out, width, generator=draw) / width**0.5
        weights[-1] = 0
        return weights.to(self.weight_dtype)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    max_loras = draw(st.sampled_from([1, 2, 4, 90]))
    # Far slots and few tokens, or near ones and many: with padding and without.
    used = draw(st.lists(st.integers(-1, max_loras - 1), min_size=1, max_size=5))
    runs = draw(
        st.lists(
            st.tuples(st.sampled_from(used), st.sampled_from([1, 1, 2, 7, 150])),
            min_size=1,
            max_size=12,
        )
    )
    slots = list(itertools.chain.from_iterable([slot] * length for slot, length in runs))
    if draw(st.booleans()):
        draw(st.randoms(use_true_random=False)).shuffle(slots)
    return Case(
        tuple(slots),
        max_loras,
        rank=draw(st.sampled_from([1, 4, 8, 16])),
        width=draw(st.sampled_from([1, 16, 40])),
        outputs=tuple(draw(st.lists(st.sampled_from([1, 4, 24]), min_size=1, max_size=3))),
        dtype=draw(st.sampled_from(list(TOLERANCE))),
        weight_dtype=draw(st.sampled_from(list(TOLERANCE))),
        is_prefill=draw(st.booleans()),
        scale=draw(st.sampled_from([1.0, 0.5])),
    )


def run(
    operator: str, case: Case, kind: type, *, buffers: bool = False, spare: int = 0
) -> torch.Tensor:
    """Outputs of an operator over the base's; `spare` slots of zeros follow the loaded ones."""
    y, x, down, up = case.tensors()
    down, up = ([w[: case.max_loras + spare] for w in weights] for weights in (down, up))
    wrapper = case.wrapper(kind)
    if operator == "linear":
        held = tuple(torch.zeros(len(x), case.rank) for _ in up) if buffers else None
        slices = case.outputs
        wrapper.add_lora_linear(y, x, tuple(down), tuple(up), case.scale, slices, buffer=held)
    elif operator == "logits":
        wrapper.add_lora_logits(y, x, down[0], up[0], case.scale)
    else:
        wrapper.add_lora_embedding(y, x[:, :1].expand(-1, case.rank), up[0])
    return y


@pytest.mark.parametrize("token", [0, 3, 4])
def test_logits_of_a_prompt_get_its_own_adapter(token: int) -> None:
    batch = Case((1, 1, 1, -1, 0))
    y, x, down, up = Case((batch.slots[token],) * 7).tensors()
    expected = Case((batch.slots[token],) * 7).wrapper(GroupedPunicaWrapper)
    wanted = y.clone()
    expected.add_lora_logits(wanted, x, down[0], up[0], 1.0)

    wrapper = batch.wrapper(GroupedPunicaWrapper)
    with wrapper.logits_of(token):
        wrapper.add_lora_logits(y, x, down[0], up[0], 1.0)

    assert torch.equal(y, wanted)
    with pytest.raises(ValueError, match="7 rows for the adapters of 5 tokens"):
        wrapper.add_lora_logits(y, x, down[0], up[0], 1.0)


def check(ours: torch.Tensor, theirs: torch.Tensor, case: Case) -> None:
    assert ours.dtype == theirs.dtype
    tolerance = max(TOLERANCE[case.dtype], TOLERANCE[torch.float32])
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("operator", OVERRIDDEN)
@settings(deadline=None)
@given(case=cases(), buffers=st.booleans())
@example(case=Case((0,) * 300 + (1, 2)), buffers=False)
@example(case=Case((2, -1, 0, 2, -1, 1)), buffers=False)
def test_results_equal_those_of_vllm(operator: str, case: Case, buffers: bool) -> None:
    ours = run(operator, case, GroupedPunicaWrapper, buffers=buffers)
    theirs = run(operator, case, PunicaWrapperCPU, buffers=buffers, spare=1)

    check(ours, theirs, case)


@settings(deadline=None)
@given(case=cases(), add_inputs=st.booleans(), offset=st.integers(0, 5))
def test_shrinking_and_expanding_apart_equal_those_of_vllm(
    case: Case, add_inputs: bool, offset: int
) -> None:
    """Fully sharded layers reduce the buffers between the two."""
    assume(max(case.slots) >= 0)
    results = []
    for kind, slots in ((GroupedPunicaWrapper, case.max_loras), (PunicaWrapperCPU, None)):
        y, x, down, up = case.tensors()
        y = torch.cat([y[:, :1].expand(-1, offset), y, y[:, :1]], dim=1)
        wrapper = case.wrapper(kind)
        buffer = torch.zeros(len(up), len(x), case.rank + 2)
        wrapper.add_shrink(buffer, x, tuple(w[:slots] for w in down), case.scale)
        shrunk = buffer[:, :, : case.rank]
        weights = tuple(w[:slots] for w in up)
        wrapper.add_expand(y, shrunk, weights, case.outputs, offset, add_inputs=add_inputs)
        results.append((buffer, y))
    (our_buffer, our_y), (their_buffer, their_y) = results

    torch.testing.assert_close(our_buffer, their_buffer, rtol=1e-5, atol=1e-5)
    check(our_y, their_y, case)


@pytest.mark.parametrize("operator", OVERRIDDEN)
@settings(deadline=None)
@given(case=cases())
def test_tokens_without_an_adapter_keep_every_bit(operator: str, case: Case) -> None:
    base = case.tensors()[0]
    result = run(operator, case, GroupedPunicaWrapper)

    without = torch.tensor(case.slots) == -1
    assert torch.equal(result[without], base[without])


def test_vllm_gives_a_token_without_an_adapter_the_last_slot() -> None:
    """The reason why `cpu.grouped_adapters: false` is unsafe; when this fails, read the ADR."""
    case = Case((0, -1), max_loras=1)
    base = case.tensors()[0]

    assert not torch.allclose(run("linear", case, PunicaWrapperCPU)[1], base[1])


def test_a_wrapper_without_a_batch_changes_nothing() -> None:
    case = Case((0, 1))
    y, x, down, up = case.tensors()
    before = y.clone()
    wrapper = GroupedPunicaWrapper(8, max_batches=2, device="cpu")

    wrapper.add_lora_linear(y, x, tuple(down), tuple(up), 1.0, case.outputs)

    assert torch.equal(y, before)


def test_each_batch_is_grouped_anew() -> None:
    first, second = Case((0, 1)), Case((1, 0))
    y, x, down, up = first.tensors()
    wrapper = first.wrapper(GroupedPunicaWrapper)
    wrapper.add_lora_logits(y.clone(), x, down[0], up[0], 1.0)
    mapping = LoRAMapping((101, 100), (101, 100), is_prefill=True)
    wrapper.update_metadata(mapping, [100, 101, 102], 4, 1000)
    logits = y.clone()
    wrapper.add_lora_logits(logits, x, down[0], up[0], 1.0)
    wrapper.add_lora_linear(y, x, tuple(down), tuple(up), 1.0, first.outputs)

    check(y, run("linear", second, PunicaWrapperCPU, spare=1), second)
    check(logits, run("logits", second, PunicaWrapperCPU, spare=1), second)


def test_a_vocabulary_padded_by_the_model_alone_is_accepted() -> None:
    case = Case((0, 1), outputs=(8,))
    y, x, down, up = case.tensors()
    wide = torch.cat([y, y], dim=1)

    case.wrapper(GroupedPunicaWrapper).add_lora_logits(wide, x, down[0], up[0], 1.0)

    check(wide[:, :8], run("logits", case, PunicaWrapperCPU, spare=1), case)
    assert torch.equal(wide[:, 8:], y)


@pytest.mark.parametrize("slots", [(0,) * 300 + (1, 2), (1, 0, 1), (2, 2)])
def test_outputs_of_three_dimensions_are_written_in_place(slots: tuple[int, ...]) -> None:
    case = Case(slots)
    y, x, down, up = case.tensors()
    deep = y.unsqueeze(0)

    case.wrapper(GroupedPunicaWrapper).add_lora_linear(
        deep, x.unsqueeze(0), tuple(down), tuple(up), 1.0, case.outputs
    )

    check(deep[0], run("linear", case, PunicaWrapperCPU, spare=1), case)


@pytest.mark.parametrize(
    "method",
    ["add_lora_linear", "add_lora_logits", "add_lora_embedding", "add_shrink", "add_expand"],
)
def test_signatures_are_those_of_vllm(method: str) -> None:
    ours, theirs = (
        inspect.signature(getattr(kind, method)).parameters.values()
        for kind in (GroupedPunicaWrapper, PunicaWrapperCPU)
    )

    assert [(p.name, p.kind, p.default) for p in ours] == [
        (p.name, p.kind, p.default) for p in theirs
    ]


@pytest.mark.parametrize("outputs", [(8,), (8, 4, 4)])
def test_an_adapter_loaded_after_the_first_batch_is_served(outputs: tuple[int, ...]) -> None:
    case = Case((0, 1, 1, 2), outputs=outputs)
    y, x, down, up = case.tensors()
    layer = (tuple(down), tuple(up), 1.0, outputs)
    ours, theirs = case.wrapper(GroupedPunicaWrapper), case.wrapper(PunicaWrapperCPU)
    ours.add_lora_linear(y.clone(), x, *layer)
    for weights in (*down, *up):
        weights[1] = 0  # as vLLM writes an adapter into a slot
        weights[1, 0, :2, :1].copy_(torch.full((2, 1), 3.0))

    result, expected = y.clone(), y.clone()
    ours.add_lora_linear(result, x, *layer)
    theirs.add_lora_linear(expected, x, *layer)

    check(result, expected, case)
    assert not torch.allclose(result[1], y[1])


def test_a_layer_whose_memory_was_replaced_is_packed_anew() -> None:
    case = Case((0, 1))
    y, x, down, up = case.tensors()
    layer = (tuple(down), tuple(up), 1.0, case.outputs)
    wrapper = case.wrapper(GroupedPunicaWrapper)
    wrapper.add_lora_linear(y.clone(), x, *layer)
    for weights in (*down, *up):
        weights.data = weights.clone()
        weights.zero_()

    result = y.clone()
    wrapper.add_lora_linear(result, x, *layer)

    assert torch.equal(result, y)
