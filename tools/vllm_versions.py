"""What the fast client stands on in the installed vLLM, for the record of tested versions.

    python -m tools.vllm_versions --write

Prints what differs from the record; with --write it records the installed version as tested. Write
it only after the tests of tests/engine have passed on this version.
"""

import json
import sys

from service.vllm.versions import RECORDED, described, differences, installed_version
from tools.command_line import command_line


def main() -> int:
    """Print the differences, or write the record; the exit code is 1 where something differs."""
    parser = command_line("tools.vllm_versions", __doc__)
    parser.add_argument("--write", action="store_true", help="record the installed version")
    options = parser.parse_args()
    if options.write:
        recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
        recorded[installed_version()] = described()
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")
        print(f"recorded vLLM {installed_version()} in {RECORDED.name}")
        return 0
    found = differences()
    print(*found or [f"vLLM {installed_version()}: as recorded"], sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
