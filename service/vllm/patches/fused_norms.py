"""vLLM's CPU build has root mean square norms in C, but computes them in eight operations of torch.

These are small in a step of few tokens, where dispatching each takes longer than its arithmetic.
The kernel is used in float32 alone, where it differs by 1e-6: in bfloat16 it rounds before the
product with the weights, and answers would differ from vLLM's own on CPUs.
"""

import torch
from vllm.model_executor.custom_op import op_registry_oot
from vllm.model_executor.layers.layernorm import RMSNorm

USES = (
    "reads vllm.model_executor.custom_op:op_registry_oot",
    "calls vllm.model_executor.custom_op:CustomOp.register_oot",
    "extends vllm.model_executor.layers.layernorm:RMSNorm.forward_native",
)

_MULTIPLE = 16
"""Of the width that the kernel takes."""


class FusedRMSNorm(RMSNorm):  # type: ignore[misc]
    """vLLM's norm, by its kernel for CPUs where that takes the input."""

    def forward_cpu(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Normalize rows (... x width), after adding the residual; both are overwritten then."""
        weight, epsilon = self.weight.data, self.variance_epsilon
        if not self._fits(x, weight) or not (residual is None or self._fits(residual, weight)):
            return self.forward_native(x, residual)
        if residual is None:
            found = torch.empty_like(x)
            torch.ops._C.rms_norm(found, x, weight, epsilon)
            return found
        torch.ops._C.fused_add_rms_norm(x, residual, weight, epsilon)
        return x, residual

    def _fits(self, x: torch.Tensor, weight: torch.Tensor) -> bool:
        return (
            self.has_weight
            and self.variance_size_override is None
            and x.dtype == weight.dtype == torch.float32
            and x.shape[-1] % _MULTIPLE == 0
            and x.is_contiguous()
        )


def fuse_norms() -> None:
    """Have vLLM make its norms of this class in this process; a second call has no effect."""
    if RMSNorm.__name__ not in op_registry_oot:
        RMSNorm.register_oot(FusedRMSNorm)
