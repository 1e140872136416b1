"""vLLM's log beside a command's own output."""

import logging
import os


def quiet_engine(level: str = "INFO") -> None:
    """Keep vLLM's log lines out of what the command prints; to be called before vLLM is imported.

    Lines of `level` and above go to stderr, unless vLLM's own variables say otherwise.
    """
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", level)
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])  # until vLLM sets it
