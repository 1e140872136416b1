"""The client that reaches vLLM: the public one, or the fast one where it is tested."""

from collections.abc import Sequence

from service.vllm.engine import StockClient
from service.vllm.versions import choose


def client_for(asked: object, by_stock: Sequence[str] = ()) -> StockClient:
    """The client for `engine.client` and these arguments; raises as `choose`.

    The fast client imports names that another version of vLLM may lack, so it is imported only
    here.
    """
    kind, notes = choose(asked, by_stock)
    if kind == "stock":
        return StockClient(notes)
    from service.vllm.fast.engine import FastClient

    return FastClient(notes)
