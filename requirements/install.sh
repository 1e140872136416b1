#!/usr/bin/env bash
# Install a pinned list of this folder for the CPU: install.sh PYTHON LIST [HASHED]
# HASHED is the same list with hashes and without torch; images install from it.
# TORCH_INDEX, where set, is the one index that torch and torchvision are taken from.
set -euo pipefail
python=$1 list=$2 rest=${3:-$2}
install() {
    "$python" -m pip --quiet --disable-pip-version-check --no-input install --no-deps "$@"
}

# torch first: an unfit build is told before all else is downloaded. --upgrade, because pip takes an
# installed CUDA build of the same version for good enough.
mapfile -t torch < <(grep -E '^torch(vision)?==' "$list")
install --upgrade ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "${torch[@]}"
"$python" - <<'PYTHON'
import importlib.util
import runpy
import sys

# torch cannot be imported yet: what it needs is installed later.
(folder,) = importlib.util.find_spec("torch").submodule_search_locations
build = runpy.run_path(f"{folder}/version.py")
if build["cuda"] is not None:
    sys.exit(
        f"error: pip offered the CUDA build of torch ({build['__version__']}), and the CPU build of "
        "the engine needs torch's +cpu build: run make again with "
        "TORCH_INDEX=<address of PyTorch's CPU wheel index>"
    )
PYTHON
install -r "$rest"
