"""GET /v1/adapters."""

from pathlib import Path

import httpx

from service.settings import AdapterSettings
from tests.live_service import LiveService


async def test_without_adapters_the_list_is_empty(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/adapters")).json() == {"object": "list", "data": []}


async def test_loaded_adapters_are_listed_by_name_without_their_folder(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    adapters = tuple(AdapterSettings(name=name, path=tmp_path) for name in ("b", "a"))
    with LiveService(adapters=adapters) as live:
        async with live.client() as client:
            response = await client.get("/v1/adapters")
    assert response.json()["data"] == [{"name": name, "state": "loaded"} for name in ("a", "b")]
    assert str(tmp_path) not in response.text
