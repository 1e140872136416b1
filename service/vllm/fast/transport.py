"""The sockets of vLLM's engine process, read and written in callbacks of the event loop."""

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any

import zmq
from vllm import envs
from vllm.v1.engine import EngineCoreOutputs, EngineCoreRequestType
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import _process_utility_output
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.stats import IterationStats

USES = (
    "mirrors vllm.v1.engine.async_llm:AsyncLLM._run_output_handler",
    "reads vllm.v1.engine.async_llm:AsyncLLM.logger_manager",
    "mirrors vllm.v1.engine.core_client:AsyncMPClient._ensure_output_queue_task",
    "reads vllm.v1.engine.core_client:AsyncMPClient._send_input",
    "replaces vllm.v1.engine.core_client:AsyncMPClient._send_input_message",
    "replaces vllm.v1.engine.core_client:BackgroundResources.output_queue_task",
    "reads vllm.v1.engine.core_client:BackgroundResources.output_socket, validate_alive",
    "reads vllm.v1.engine.core_client:MPClient._format_exception, decoder, ensure_alive, "
    "utility_results",
    "reads vllm.v1.engine.core_client:_process_utility_output",
    "calls vllm.v1.engine.output_processor:OutputProcessor.process_outputs",
    "reads vllm.v1.engine.output_processor:OutputProcessor.update_scheduler_stats",
    "fields of vllm.v1.engine:EngineCoreOutputs",
    "calls vllm.v1.metrics.loggers:PrometheusStatLogger.record",
)

_log = logging.getLogger(__name__)

_EVENTS, _READABLE, _AT_ONCE = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.NOBLOCK)
"""As plain numbers, because operators of pyzmq's enumerations take longer than the calls
themselves."""
_DONE = object()


class EngineTransport:
    """Sends and receives the messages of vLLM's client, without a task for each message.

    vLLM's client makes a future for each message that it sends or receives. One of its tasks reads
    the socket and queues each step; a second task processes the queue. Here the event loop calls
    `_turn` when a message has come, and this call processes the step in the message. A large step
    is split over several iterations of the loop, as in vLLM.

    All requests end with an error if reading fails or the engine's process ends, as in vLLM.
    """

    @classmethod
    def replace(cls, llm: AsyncLLM) -> None:
        """Replace the tasks of vLLM's client, which must not have started yet."""
        own, resources = cls(llm), llm.engine_core.resources
        llm.engine_core._send_input_message = own._send
        resources.output_queue_task = own._failed  # cancelled when the engine's process has ended
        llm.output_handler = own._loop.create_task(own._tell_of_failure())
        own._begin(resources.output_socket)

    def __init__(self, llm: AsyncLLM) -> None:
        self._core = llm.engine_core
        self._processor = llm.output_processor
        self._logger = llm.logger_manager
        self._loop = asyncio.get_running_loop()
        self._steps: Any = zmq.Socket.shadow(self._core.resources.output_socket)
        self._requests: Any = zmq.Socket.shadow(self._core.resources.input_socket)
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._sent: asyncio.Future[None] = self._loop.create_future()
        self._sent.set_result(None)
        self._most: int = envs.VLLM_V1_OUTPUT_PROC_CHUNK_SIZE
        self._step: Iterator[None] | None = None
        self._again = False

    def _begin(self, socket: Any) -> None:
        """Read from now on, until vLLM closes the socket."""
        number, close = socket.fileno(), socket.close

        def closed(linger: int | None = None) -> None:
            if not self._loop.is_closed():
                self._loop.remove_reader(number)
            close(linger)

        socket.close = closed
        self._loop.add_reader(number, self._readable)
        self._come_again()  # the number tells of later messages only

    def _send(self, message: Sequence[Any], engine: bytes) -> Awaitable[None]:
        """Send a message; never blocks, because these sockets hold any number of messages."""
        self._core.ensure_alive()
        small = len(message) == 2  # tensors would have parts of their own
        self._requests.send_multipart((engine, *message), _AT_ONCE, copy=small)
        return self._sent

    def _readable(self) -> None:
        if not self._again:
            self._turn()

    def _come_again(self) -> None:
        self._again = True
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Process the next message, or a part of its step; reschedule while there is more."""
        self._again = False
        if self._failed.done():
            return
        try:
            if self._step is None:
                self._step = self._received()
            if self._step is None:
                return
            if next(self._step, _DONE) is _DONE:
                self._step = None
        except Exception as error:
            self._failed.set_exception(error)
            return
        if self._step is not None or self._steps.get(_EVENTS) & _READABLE:
            self._come_again()

    def _received(self) -> Iterator[None] | None:
        """The work that the next message brings, None if there is no message."""
        try:
            frames = [self._steps.recv(_AT_ONCE, copy=False)]
        except zmq.Again:
            return None
        while frames[-1].more:
            frames.append(self._steps.recv(copy=False))
        self._core.resources.validate_alive(frames)
        outputs: EngineCoreOutputs = self._core.decoder.decode(frames)
        if outputs.utility_output:
            _process_utility_output(outputs.utility_output, self._core.utility_results)
        return self._processed(outputs)

    def _processed(self, step: EngineCoreOutputs) -> Iterator[None]:
        """Process a step in parts, and record it."""
        if not (step.outputs or step.scheduler_stats):
            return
        stats = IterationStats() if step.outputs else None
        for start in range(0, len(step.outputs), self._most):
            if start:
                yield
            part = step.outputs[start : start + self._most]
            processed = self._processor.process_outputs(part, step.timestamp, stats)
            if processed.reqs_to_abort:
                self._core._send_input(EngineCoreRequestType.ABORT, processed.reqs_to_abort)
        self._processor.update_scheduler_stats(step.scheduler_stats)
        self._logger.record(
            engine_idx=step.engine_index,
            scheduler_stats=step.scheduler_stats,
            iteration_stats=stats,
        )

    async def _tell_of_failure(self) -> None:
        """Wait until reading fails, and end all requests; vLLM sees that this task has ended."""
        await asyncio.wait([self._failed])  # a cancel of this task leaves the future alone
        dead = self._failed.cancelled()
        error = EngineDeadError() if dead else self._failed.exception()
        _log.error("reading from the engine failed", exc_info=error)
        self._processor.propagate_error(self._core._format_exception(error))
