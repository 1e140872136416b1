"""vLLM's router before the service, as its only worker."""

from gateway import try_router

FAULTS = {
    "/v1/rerank": ("model: 'default' is not served", "vllm-router replaces the model by `default`"),
}
try_router(["vllm_router.launch_router"], FAULTS)
