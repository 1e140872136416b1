"""The choice between the two ways to reach vLLM."""

from service.vllm.stock import StockClient
from service.vllm.versions import choose


def client_for(asked: object) -> StockClient:
    """The client for `engine.client`; raises as `choose`.

    The fast one stands on names that another version may lack, so nothing else imports it.
    """
    kind, notes = choose(asked)
    if kind == "stock":
        return StockClient(notes)
    from service.vllm.fast.client import FastClient

    return FastClient(notes)
