"""Outputs of vLLM's pooling runner as values, without an engine."""

from typing import Any

import pytest
import torch
from vllm.outputs import PoolingOutput, PoolingRequestOutput, RequestError

from service.errors import EngineDead, ServiceError
from service.vllm.stock import _pooled


def output(values: list[float], error: RequestError | None = None) -> PoolingRequestOutput[Any]:
    return PoolingRequestOutput(
        "id",
        PoolingOutput(torch.tensor(values, dtype=torch.bfloat16)),
        [1, 2, 3],
        1,
        True,
        error=error,
    )


def test_values_are_floats_of_32_bits() -> None:
    pooled = _pooled(output([0.5, 2.0]))
    assert pooled.values.dtype == "float32"
    assert pooled.values.tolist() == [0.5, 2.0]
    assert (pooled.prompt_tokens, pooled.cached_tokens) == (3, 1)


@pytest.mark.parametrize(
    "told",
    [None, output([]), output([0.5], RequestError("internal", "it failed"))],
    ids=["none", "aborted", "failed"],
)
def test_a_stream_without_values_has_not_been_answered(told: Any) -> None:
    with pytest.raises(EngineDead):
        _pooled(told)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_no_answer(value: float) -> None:
    with pytest.raises(ServiceError, match="not finite"):
        _pooled(output([0.5, value]))
