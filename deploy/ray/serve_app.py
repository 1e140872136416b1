"""The service on Ray Serve: each replica of Ray Serve runs one replica of the service.

    serve run deploy/ray/serve.yaml

The service is a process of its own, so that it may have another environment than Ray's: this file
needs `ray[serve]` alone. Requests are passed on as they are, answers as they come. The number of
replicas follows the requests that wait for, or hold, the service's slots: Ray's own count of
requests knows neither how many sequences an engine takes nor that others wait before it.
"""

import asyncio
import math
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from ctypes import CDLL
from typing import Any

import aiohttp
from ray import serve
from ray.serve.config import AutoscalingContext
from starlette.requests import Request
from starlette.responses import StreamingResponse

_PR_SET_PDEATHSIG = 1
_OF_THE_CONNECTION = frozenset(
    {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"}
)
"""Headers that belong to one connection (RFC 9110, section 7.6.1)."""
_SIGNALS = {
    "waiting": "inference_requests_waiting",
    "running": "inference_requests_in_flight",
    "slots": "inference_admission_limit",
}


@serve.deployment(max_ongoing_requests=1000)
class Service:
    """One replica of the service; `command` starts it, and settings may add to its environment."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self,
        config: str,
        command: Sequence[str] = ("llm-service",),
        environment: dict[str, str] | None = None,
        start_s: float = 1800.0,
        drain_s: float = 120.0,
    ) -> None:
        self._ports = [_hold_port() for _ in range(2)]
        public, admin = (int(each.getsockname()[1]) for each in self._ports)
        own = {
            "LLM_SERVICE_HTTP__PORT": str(public),
            "LLM_SERVICE_HTTP__OPS_PORT": str(admin),
            "LLM_SERVICE_HTTP__BEHIND_ROUTER": "true",
        }
        self._drain_s = drain_s
        self._watch: asyncio.Task[None] | None = None
        self._process = await asyncio.create_subprocess_exec(
            *command,
            *("serve", "--config", config),
            env={**os.environ, **(environment or {}), **own},
            preexec_fn=_end_with_parent,
        )
        # Nothing here ends what the service's own deadlines end; the connection pool has no bound.
        self._client = aiohttp.ClientSession(
            f"http://127.0.0.1:{public}",
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, connect=5),
            auto_decompress=False,
        )
        self._admin = aiohttp.ClientSession(
            f"http://127.0.0.1:{admin}", timeout=aiohttp.ClientTimeout(total=5)
        )
        await asyncio.wait_for(self._ready(), start_s)
        self._watch = asyncio.create_task(self._end_with_service())

    async def __call__(self, request: Request) -> StreamingResponse:
        """Pass a request on; a client that goes away ends it in the service, too."""
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        answer = await self._client.request(
            request.method,
            path,
            data=await request.body() or None,
            headers=_passed_on(request.headers.items()),
            allow_redirects=False,
        )
        headers = dict(_passed_on(answer.headers.items()))
        return StreamingResponse(_content(answer), answer.status, headers)

    async def check_health(self) -> None:
        """Raise if the service's engine has ended; Ray Serve then replaces the replica."""
        async with self._admin.get("/livez") as answer:
            answer.raise_for_status()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What `replicas` decides by."""
        async with self._admin.get("/metrics") as answer:
            page = await answer.text()
        return {name: _sum(page, series) for name, series in _SIGNALS.items()}

    async def __del__(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), self._drain_s)
        await self._client.close()
        await self._admin.close()

    async def _end_with_service(self) -> None:
        """End with the service, which Ray notices sooner than by a check of its health."""
        await self._process.wait()
        os._exit(1)

    async def _ready(self) -> None:
        while True:
            if self._process.returncode is not None:
                raise RuntimeError(f"the service has ended with {self._process.returncode}")
            with suppress(aiohttp.ClientError):
                async with self._admin.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.5)


def replicas(context: AutoscalingContext, *, load: float = 0.75) -> tuple[int, dict[str, Any]]:
    """As many replicas as have slots for all requests at this part of their slots."""
    found = context.aggregated_metrics or {}
    slots = max(found.get("slots", {}).values(), default=0.0)
    if not slots:
        return context.target_num_replicas, {}
    wanted = sum(sum(found.get(name, {}).values()) for name in ("waiting", "running"))
    number = math.ceil(wanted / (load * slots))
    bounds = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    return min(max(number, bounds[0], 1), bounds[1]), {}


def application(arguments: dict[str, Any]) -> serve.Application:
    """The application; `arguments` are those of `Service`."""
    bound: serve.Application = Service.bind(**arguments)  # type: ignore[attr-defined]
    return bound


async def _content(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for part in answer.content.iter_any():
            yield part


def _passed_on(headers: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _OF_THE_CONNECTION]


def _sum(page: str, series: str) -> float:
    found = re.findall(rf"^{series}(?:{{.*}})? (\S+)$", page, re.MULTILINE)
    return sum(float(each) for each in found)


def _hold_port() -> socket.socket:
    """Bind a port for the service alone, which sets SO_REUSEADDR and so can listen."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def _end_with_parent() -> None:
    """Drain when the replica's process is gone, however it ended."""
    CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
