#!/usr/bin/env bash
# Install a pinned list of this folder for the CPU: install.sh PYTHON LIST [HASHED]
# HASHED is the same list with hashes and without torch; images install from it.
# TORCH_INDEX, where set, is the one index that torch and torchvision are taken from; TORCH_SHA256 and
# TORCHVISION_SHA256 are the hashes that their wheels must have, which differ from index to index.
set -euo pipefail
python=$1 list=$2 rest=${3:-$2}
install() {
    PYTHONUNBUFFERED=1 "$python" -m pip --disable-pip-version-check --no-input install --no-deps \
        --progress-bar off "$@" | told
}
# Tell how far pip is: one line that counts on a terminal, a line for every 25 packages in a log.
told() {
    local seen=0 line name
    while IFS= read -r line; do
        case $line in
            Collecting\ * | Requirement\ already\ satisfied:\ *)
                seen=$((seen + 1))
                name=${line#Collecting } name=${name#Requirement already satisfied: }
                if [ -t 1 ]; then
                    printf '\r\e[K    %d of %d: %s' "$seen" "$total" "${name%% *}"
                elif [ $((seen % 25)) -eq 0 ]; then
                    echo "    $seen of $total"
                fi
                ;;
            Installing\ collected\ packages:*)
                if [ -t 1 ]; then printf '\r\e[K'; fi
                echo "    all $seen are here; unpacking what is new"
                ;;
        esac
    done
    if [ -t 1 ]; then printf '\r\e[K'; fi
}

# torch first: an unfit build is told before all else is downloaded. --upgrade, because pip takes an
# installed CUDA build of the same version for good enough.
torch=$(mktemp)
trap 'rm -f "$torch"' EXIT
grep -E '^torch(vision)?==' "$list" \
    | sed -e "/^torch==/s/\$/${TORCH_SHA256:+ --hash=sha256:$TORCH_SHA256}/" \
        -e "/^torchvision==/s/\$/${TORCHVISION_SHA256:+ --hash=sha256:$TORCHVISION_SHA256}/" > "$torch"
total=$(wc -l < "$torch")
install --upgrade ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r "$torch"
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
        "TORCH_INDEX=<address of PyTorch's CPU wheel index>, or docker build with "
        "--build-arg TORCH_INDEX=<the same>"
    )
PYTHON
total=$(grep -cE '^[A-Za-z0-9]' "$rest")
install -r "$rest"
