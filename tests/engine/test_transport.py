"""The sockets of an engine's process, with a socket in the place of the process."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import zmq
import zmq.asyncio
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequestType
from vllm.v1.engine.core_client import BackgroundResources
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import OutputProcessorOutput
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from service.vllm.fast.transport import EngineTransport


class Far:
    """The engine's ends of the sockets, and what became of the steps that it sent."""

    def __init__(self) -> None:
        self.context = zmq.asyncio.Context()
        self.resources = BackgroundResources(ctx=self.context)
        self.steps, self.resources.output_socket = self._pair(zmq.PUSH, zmq.PULL)
        self.requests, self.resources.input_socket = self._pair(zmq.DEALER, zmq.ROUTER)
        self.sent: list[tuple[Any, ...]] = []
        core = SimpleNamespace(
            resources=self.resources,
            decoder=MsgpackDecoder(EngineCoreOutputs),
            utility_results={},
            ensure_alive=lambda: None,
            _send_input=lambda *message: self.sent.append(message),
            _format_exception=lambda error: error,
        )
        self.parts: list[list[str]] = []
        self._came = asyncio.Event()
        self.errors: list[Exception] = []
        self.processor = SimpleNamespace(
            process_outputs=self._process,
            update_scheduler_stats=lambda stats: None,
            propagate_error=self.errors.append,
        )
        logger = SimpleNamespace(record=lambda **_: self._note([]))
        self.resources.output_queue_task = asyncio.create_task(asyncio.sleep(0))
        self.llm: Any = SimpleNamespace(
            engine_core=core,
            output_processor=self.processor,
            output_handler=asyncio.create_task(asyncio.sleep(0)),
            logger_manager=logger,
            renderer=SimpleNamespace(stat_mm_cache=lambda: None),
        )
        EngineTransport.replace(self.llm)

    def _pair(self, far: int, near: int) -> tuple[Any, Any]:
        first: Any = zmq.Context.instance().socket(far)
        second = self.context.socket(near)
        first.setsockopt(zmq.IDENTITY, b"engine")
        port = second.bind_to_random_port("tcp://127.0.0.1")
        first.connect(f"tcp://127.0.0.1:{port}")
        return first, second

    def _process(self, outputs: Any, *_: Any, **__: Any) -> OutputProcessorOutput:
        names = [each.request_id for each in outputs]
        if "broken" in names:
            raise ValueError("broken")
        self._note(names)
        stopped = [name for name in names if name == "stopped"]
        return OutputProcessorOutput(request_outputs=[], reqs_to_abort=stopped)

    def send(self, *names: str) -> None:
        """Send a step with an output for each of these requests."""
        step = EngineCoreOutputs(outputs=[EngineCoreOutput(name, [1]) for name in names])
        self.steps.send_multipart(MsgpackEncoder().encode(step))

    async def processed(self, parts: int) -> list[list[str]]:
        """The parts of steps, once there are so many; a step's end is an empty one."""
        async with asyncio.timeout(30):
            while len(self.parts) < parts:
                await self._came.wait()
                self._came.clear()
        return self.parts

    def _note(self, part: list[str]) -> None:
        self.parts.append(part)
        self._came.set()


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    end = Far()
    yield end
    for each in (end.steps, end.requests):
        each.close(linger=0)
    end.resources.output_socket.close(linger=0)
    end.resources.input_socket.close(linger=0)
    end.llm.output_handler.cancel()


async def test_steps_are_processed_in_parts_and_in_order(far: Far) -> None:
    far.send("a", "b")
    await far.processed(2)
    many = [str(number) for number in range(300)]
    far.send(*many)
    far.send("c")
    parts = await far.processed(8)
    assert parts == [["a", "b"], [], many[:128], many[128:256], many[256:], [], ["c"], []]


async def test_a_request_that_reached_a_stop_string_is_aborted(far: Far) -> None:
    far.send("stopped", "other")
    await far.processed(2)
    assert far.sent == [(EngineCoreRequestType.ABORT, ["stopped"])]


async def test_messages_are_sent_at_once(far: Far) -> None:
    far.requests.send(b"ready")  # a router learns of an engine by its first message
    await far.resources.input_socket.recv_multipart()
    await far.llm.engine_core._send_input_message((b"\x00", b"request"), b"engine")
    got = await asyncio.to_thread(far.requests.recv_multipart)
    assert got == [b"\x00", b"request"]


async def test_a_step_that_fails_ends_all_requests(far: Far) -> None:
    far.send("broken")
    await asyncio.wait_for(far.llm.output_handler, 30)
    (error,) = far.errors
    assert isinstance(error, ValueError)
    far.send("a")
    await asyncio.sleep(0.05)
    assert far.parts == []


async def test_the_end_of_the_engines_process_ends_all_requests(far: Far) -> None:
    far.resources()  # as vLLM does when the process has ended
    await asyncio.wait_for(far.llm.output_handler, 30)
    (error,) = far.errors
    assert isinstance(error, EngineDeadError)


async def test_a_stop_of_the_service_tells_nobody(far: Far) -> None:
    far.llm.output_handler.cancel()
    await asyncio.wait([far.llm.output_handler])
    far.resources()
    await asyncio.sleep(0.05)
    assert far.errors == []
