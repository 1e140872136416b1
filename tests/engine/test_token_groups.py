"""Grouping a batch by adapter."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from service.vllm.patches.adapter_operators import TokenGroups

batches = st.lists(st.integers(-1, 5), max_size=60)


@given(slots=batches)
@example(slots=[0] * 300 + [1, 2, -1])  # too uneven to pad
@example(slots=[63, -1, 0] * 4)  # too far apart to pad
@example(slots=[-1, -1])
def test_every_token_is_multiplied_by_its_adapter(slots: list[int]) -> None:
    groups = TokenGroups.of(torch.tensor(slots, dtype=torch.long))
    x = torch.arange(1.0, len(slots) + 1).view(-1, 1)
    weights = torch.arange(1.0, 65).view(64, 1, 1)

    product = groups.restored(groups.multiply(groups.gather(x), weights, torch.float32))

    expected = [(i + 1.0) * (slot + 1) for i, slot in enumerate(slots)]
    assert product.flatten().tolist() == expected  # slot -1 gives zero


@given(slots=batches)
@example(slots=[63, 0] * 4)
def test_only_tokens_with_an_adapter_have_rows(slots: list[int]) -> None:
    groups = TokenGroups.of(torch.tensor(slots, dtype=torch.long))

    sizes = {slot: end - start for slot, start, end in groups.spans}
    assert sizes == {slot: slots.count(slot) for slot in set(slots) - {-1}}


@pytest.mark.parametrize(
    ("slots", "padded"),
    [
        ([2, 1, 2, 1], (1, 2, 2)),
        ([0, 3, 3], (0, 4, 2)),  # slots between are padding
        ([4] * 1000, (4, 1, 1000)),
        ([0] * 1000 + [1] * 999, (0, 2, 1000)),
        ([0] * 1000 + [1], (0, 2, 1000)),
        ([0] * 1000 + [1] + [2], None),
        ([0, 200] * 2, None),
    ],
)
def test_groups_are_padded_only_while_padding_is_cheap(
    slots: list[int], padded: tuple[int, int, int] | None
) -> None:
    assert TokenGroups.of(torch.tensor(slots)).padded == padded


@pytest.mark.parametrize("slots", [[3, 3, 3], [0, 0, 1, 1], [0] * 600 + [1] * 2 + [2]])
def test_a_batch_in_group_order_is_used_as_it_is(slots: list[int]) -> None:
    groups = TokenGroups.of(torch.tensor(slots))
    x = torch.ones(len(slots), 1)

    assert groups.gather(x) is x


def test_rows_of_another_batch_are_refused() -> None:
    groups = TokenGroups.of(torch.tensor([0, 1]))

    with pytest.raises(ValueError, match="3 rows for the adapters of 2 tokens"):
        groups.gather(torch.ones(3, 1))
