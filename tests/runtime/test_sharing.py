"""A service that shares tenants' counters with others, and what it says without the store."""

import httpx

from loadtests.processes import eventually
from tests.live_service import LiveService
from tests.tenants.redis_server import RedisServer

_BODY = {"model": "fake", "prompt": "Tell me"}
_ALONE = "fake: fair alone: admission.storage does not answer"


async def verbose(live: LiveService) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"{live.ops_url}/readyz?verbose")


async def test_a_service_says_whether_it_shares_and_serves_in_any_case() -> None:
    with RedisServer() as redis:
        sharing = {"storage": redis.url, "exchange_ms": 20}
        with LiveService(admission=sharing) as live:
            await eventually(lambda: live.value("inference_fairness_shared", engine="fake") == 1)
            assert _ALONE not in (await verbose(live)).text
            redis.kill()
            await eventually(lambda: live.value("inference_fairness_shared", engine="fake") == 0)
            said = await verbose(live)
            assert (said.status_code, _ALONE in said.text) == (200, True)
            async with live.client() as client:
                assert (await client.post("/v1/generate", json=_BODY)).status_code == 200
            failures = {"engine": "fake", "outcome": "error"}
            assert live.value("inference_fairness_exchanges_total", **failures) >= 1
            assert live.value("inference_fairness_exchange_age_seconds") > 0
            redis.start()
            await eventually(lambda: live.value("inference_fairness_shared", engine="fake") == 1)


def test_without_a_store_nothing_is_shown() -> None:
    with LiveService() as live:
        assert "inference_fairness_shared" not in {
            sample.name for family in live.registry.collect() for sample in family.samples
        }
