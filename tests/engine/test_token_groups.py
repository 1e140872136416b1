"""Grouping a batch by adapter."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from service.engine.token_groups import TokenGroups

batches = st.lists(st.integers(-1, 5), max_size=60)


@given(slots=batches)
@example(slots=[0] * 300 + [1])  # too uneven to pad
@example(slots=[63, 0] * 4)  # too far apart to pad
@example(slots=[-1, -1])
def test_every_token_has_one_row_in_the_group_of_its_adapter(slots: list[int]) -> None:
    groups = TokenGroups.of(torch.tensor(slots, dtype=torch.long))

    rows = {row: slot for slot, start, end in groups.spans for row in range(start, end)}
    assert len(set(groups.position.tolist())) == len(slots)
    assert [rows.get(row, -1) for row in groups.position.tolist()] == slots


@given(slots=batches)
@example(slots=[0] * 300 + [1])
@example(slots=[63, 0] * 4)
def test_gathering_and_restoring_changes_nothing(slots: list[int]) -> None:
    groups = TokenGroups.of(torch.tensor(slots, dtype=torch.long))
    x = torch.arange(len(slots) * 2).view(-1, 2)

    assert torch.equal(groups.restored(groups.gather(x)), x)


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


@pytest.mark.parametrize("slots", [[3, 3, 3], [0, 0, 1, 1, -1], [0] * 600 + [1] * 2 + [2]])
def test_a_batch_in_group_order_is_used_as_it_is(slots: list[int]) -> None:
    groups = TokenGroups.of(torch.tensor(slots))
    x = torch.ones(len(slots), 1)

    assert groups.gather(x) is x


def test_rows_of_another_batch_are_refused() -> None:
    groups = TokenGroups.of(torch.tensor([0, 1]))

    with pytest.raises(ValueError, match="3 rows for the adapters of 2 tokens"):
        groups.gather(torch.ones(3, 1))
