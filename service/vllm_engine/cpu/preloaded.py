"""Modules that the seed of the engine's processes imports before it is forked."""

import atexit
import gc
import os
import signal

import setproctitle
import vllm.model_executor.models.llama
import vllm.v1.engine.core
import vllm.v1.executor.multiproc_executor
import vllm.v1.worker.cpu_worker  # noqa: F401

import service.vllm_engine.worker  # noqa: F401
from service.vllm_engine.cpu.seed import remember_variables

remember_variables()
# It finds the place of its title by the first variables, which a forked process replaces.
setproctitle.getproctitle()
# The seed ends when the last of its processes and the service have ended, and tells how they ended.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
atexit.register(os._exit, 0)
# Its objects stay: a collection in a forked process would copy the pages that all share.
gc.collect()
gc.freeze()
