"""Imports what the engine's processes need; loaded by the fork server before it forks them."""

import atexit
import gc
import logging
import os
import signal
from importlib import import_module
from multiprocessing import spawn

import setproctitle

from service.vllm.cpu.forkserver import SEED_MODULES, remember_variables

USES = ("replaces vllm.platforms.cpu:CpuPlatform.register_triton_kernel_overrides",)

# Imports leave hardly any garbage, and each full collection would look at all objects so far.
gc.disable()
# torch warns of a missing Triton, which the CPU build never has.
logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
for name in SEED_MODULES:
    import_module(name)

remember_variables()
# Each worker would look at every module for Triton's kernels, for half a second.
_cpu = type(import_module("vllm.platforms").current_platform)
_cpu.register_triton_kernel_overrides()
_cpu.register_triton_kernel_overrides = classmethod(lambda cls: None)
# setproctitle finds the place of the title by the first variables, which a forked process replaces.
setproctitle.getproctitle()
# The engine's processes need nothing of the command, which each would import again as its main.
vars(spawn).update(dict.fromkeys(("_fixup_main_from_name", "_fixup_main_from_path"), id))
# The seed ends when the last of its processes and the service have ended, and tells how they ended.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
atexit.register(os._exit, 0)
# A collection in a forked process would copy the pages that the frozen objects share with others.
gc.collect()
gc.freeze()
gc.enable()
