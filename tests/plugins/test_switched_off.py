"""Routes of plugins that are off: each names the setting that turns it on."""

import pytest
from fastapi.routing import APIRoute

from service.runtime.parts import plugin_types
from service.settings.tree import HttpSettings
from tests.answers import refusal
from tests.live_service import LiveService

OFF = [
    (sorted(route.methods)[0], route.path.replace("{", "").replace("}", ""), kind.switch)
    for kind in plugin_types().values()
    if kind.switch
    for router in kind.routers
    for route in router.routes
    if isinstance(route, APIRoute)
]


@pytest.mark.parametrize(("method", "path", "setting"), OFF)
async def test_a_route_that_is_off_names_the_setting_that_turns_it_on(
    method: str, path: str, setting: str
) -> None:
    with LiveService(http=HttpSettings(console=False)) as live:
        async with live.client() as client:
            error = refusal(await client.request(method, path), 404)
            described = (await client.get("/openapi.json")).json()["paths"]
    assert (error["type"], error["code"]) == ("not_found_error", "not_found")
    told = f"'{path}' is off in this service; the setting {setting} turns it on"
    assert error["message"] == told
    assert path not in described
