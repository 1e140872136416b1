"""What the fast client needs in the installed vLLM, for the record of tested versions.

    python -m tools.vllm_versions --write

Prints what differs from the record; with --write it records the installed version as tested. Write
it only after the tests of tests/engine have passed on this version.
"""

import json
import sys
from dataclasses import fields
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs

from service.vllm.versions import RECORDED, differences, installed_version, standing
from tools.command_line import command_line
from tools.vllm_uses import fast_members


def described() -> dict[str, Any]:
    """What the record says of a version, of the installed one."""
    arguments = [each.name for each in fields(AsyncEngineArgs)]
    return {"standing": standing(fast_members()), "arguments": arguments}


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
