#!/usr/bin/env bash
# Try the README's two commands on a bare machine: a chroot of plain Debian that has python3.11, pip,
# make and git, and nothing else.
#
#   tools/fresh_machine.sh FOLDER [INDEX] [SUITE]
#
# FOLDER is made, and kept to be looked at. INDEX is `own`, pip's settings on this machine (index, certificates,
# folders of wheels), if not given; or only `make run` is tried before an index of another kind: `cpu` lists
# torch's builds for CPUs beside those for CUDA; `cuda` only the latter, with PyTorch's own index in reach of
# uv; `alone` without, so that `make run` ends with what to pass. These need `make dev`, and torch's wheels for
# CPUs in WHEELS or pip's find-links; all other packages come from pip's index.
# SUITE is bookworm, whose python3 is 3.11, if not given. In a suite of another Python, this machine's python3.11
# is copied, without what was installed for it. Needs root and mmdebstrap; apt's mirror is this machine's.
# Prints minutes and what came down; ends with 0 when `make run` has answered and, for `own`, `make test` is green.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \?//p}' "$0" >&2; exit 2; }
root=$(realpath -m "$1") index=${2:-own} suite=${3:-bookworm}
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "error: a chroot needs root" >&2; exit 2; }
command -v mmdebstrap >/dev/null || { echo "error: install Debian's package mmdebstrap" >&2; exit 2; }
case $index in own | cpu | cuda | alone) ;; *) echo "error: INDEX: own, cpu, cuda or alone, not $index" >&2; exit 2 ;; esac
wheels=${WHEELS:-${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}}
if [ "$index" != own ] && [ -z "${BEFORE_INDEX:-}" ]; then
    compgen -G "$wheels/torch-*+cpu-*.whl" >/dev/null || { echo "error: WHEELS: no torch for CPUs in it" >&2; exit 2; }
    BEFORE_INDEX=1 exec .venv/bin/python -m tests.container.package_index "$index" "$wheels" tools/fresh_machine.sh \
        "$root" "$index" "$suite"
fi

if [ ! -d "$root" ]; then
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '^http')
    echo "==> making a plain $suite in $root"
    mmdebstrap --quiet --variant=minbase --skip=cleanup/apt \
        --include=ca-certificates,git,make,python3,python3-pip,python3-venv "$suite" "$root" "$mirror"
fi
if [ ! -e "$root/usr/bin/python3.11" ]; then
    echo "==> copying this machine's python3.11"
    base=$(python3.11 -c 'import sys; print(sys.base_prefix)')
    mkdir -p "$root$base"
    tar -C "$base" --exclude site-packages -c . | tar -C "$root$base" -x
    ln -sf "$base/bin/python3.11" "$root/usr/local/bin/python3.11"
fi
echo "==> cloning $(git rev-parse --short HEAD)"
rm -rf "$root/llm-service" "$root/root/.cache"
git clone --quiet . "$root/llm-service"

# What pip is told on this machine it is told there.
paths=(/etc/resolv.conf /etc/hosts /etc/ssl/certs ${SSL_CERT_FILE:-})
[ "$index" != own ] || paths+=(/etc/pip.conf /etc/xdg/pip "$HOME/.config/pip" ${wheels:-})
for path in "${paths[@]}"; do
    [ -e "$path" ] || continue
    mkdir -p "$root$(dirname "$path")"
    cp -rL --remove-destination "$path" "$root$(dirname "$path")/"
done

inside() {
    local kept=()
    mapfile -t kept < <(env | grep -E '^(PIP_|HTTPS?_PROXY|https?_proxy|NO_PROXY|no_proxy|SSL_CERT_FILE|TORCH_INDEX)' || true)
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --kill-child bash -euo pipefail -c '
        root=$1; shift
        mount --make-rprivate /
        mount -t proc proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/dev/shm"
        exec chroot "$root" /usr/bin/env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
    ' inside "$root" "${kept[@]}" bash -euo pipefail -c "cd /llm-service; $1"
}

echo "==> make run"
inside '
    started=$SECONDS
    make run >/tmp/run.log 2>&1 &
    server=$!
    trap "kill $server 2>/dev/null || true" EXIT
    until grep -q "listening on" /tmp/run.log; do
        kill -0 $server 2>/dev/null || {
            tail -n 30 /tmp/run.log; echo "    ended after $((SECONDS - started)) s, without an answer"; exit 1
        }
        sleep 1
    done
    echo "    listening after $((SECONDS - started)) s, with $(du -sh --exclude .git . | cut -f1) on the disk"
    python3 - <<"PYTHON"
import json
import urllib.request

url = "http://127.0.0.1:8000/v1/classify"
body = {"model": "sentiment", "input": "I loved every minute of it."}
request = urllib.request.Request(
    url, json.dumps(body).encode(), {"Content-Type": "application/json"}
)
answer = json.load(urllib.request.urlopen(request, timeout=60))
print("    answered:", answer["data"][0]["label"], answer["data"][0]["score"])
PYTHON
    kill -TERM $server; wait $server || true
'
[ "$index" = own ] || exit 0
echo "==> make test"
inside 'started=$SECONDS; make test </dev/null; echo "    green after $((SECONDS - started)) s"'
