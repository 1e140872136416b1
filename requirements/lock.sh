#!/usr/bin/env bash
# Resolve pyproject.toml into the pinned, URL-free lists of this folder (needs uv).
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
    uv pip compile --quiet --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header \
        --no-annotate "$@"
}
compile pyproject.toml --extra cpu --extra s3 --extra oci --extra signing --override requirements/overrides-cpu.txt -o requirements/cpu.txt
compile pyproject.toml --extra cpu --extra dev --override requirements/overrides-cpu.txt \
    -c requirements/cpu.txt -o requirements/dev.txt
compile pyproject.toml --extra cuda --extra s3 --extra oci --extra signing --override requirements/overrides-cuda.txt -o requirements/cuda.txt
sed -i '/^-e\|^\.\|^llm-service/d' requirements/cpu.txt requirements/dev.txt requirements/cuda.txt
# The images' lists follow from these.
"${PYTHON:-python3.11}" requirements/hash.py
