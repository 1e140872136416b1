"""A command under several instruction sets, one after another, on one processor.

The sets are those that vLLM's CPU build and its libraries tell apart on x86-64. A set is made by
hiding the newer instructions: from oneDNN, MKL and ATen by the environment variables that they
read, and from vLLM, which asks torch, by an entry point that torch calls when it is imported.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.command_line import command_line

_HIDDEN = "TOOLS_HIDDEN_INSTRUCTIONS"
_FEWEST = 2
_WELL, _ABSENT = "ok", "not run: this processor does not have it"

_HELP = """\
Run a command under every instruction set that this processor has: avx2, avx512, avx512_bf16 and
amx, or those named by --sets. The exit code is 1 if the command fails under one, or if the
processor has fewer than two of them.

  python -m tools.instruction_sets python -m pytest tests/engine/test_examples.py
  python -m tools.instruction_sets --sets avx2 python -m service.cli.main serve --config my.yaml
"""


@dataclass(frozen=True)
class InstructionSet:
    """A kind of processor.

    `needs` is the capability, as torch names it, that a processor must have; `hidden` are the
    beginnings of the names of those that are taken away.
    """

    name: str
    needs: str
    hidden: tuple[str, ...]
    onednn: str
    aten: str
    mkl: str

    def environment(self, folder: Path) -> dict[str, str]:
        """Variables under which a command runs; writes the entry point into the folder."""
        package = folder / "instruction_sets-0.dist-info"
        package.mkdir(exist_ok=True)
        (package / "METADATA").write_text("Name: instruction-sets\nVersion: 0\n")
        (package / "entry_points.txt").write_text(
            "[torch.backends]\nhide = tools.instruction_sets:hide\n"
        )
        path = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        return {
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "ONEDNN_MAX_CPU_ISA": self.onednn,
            "ATEN_CPU_CAPABILITY": self.aten,
            "MKL_ENABLE_INSTRUCTIONS": self.mkl,
            _HIDDEN: " ".join(self.hidden),
        }


_NEWEST = ("amx", "avx512_bf16", "avx512_fp16")
SETS = (
    InstructionSet("avx2", "avx2", ("amx", "avx512", "avx_vnni", "avx_ne"), "AVX2", "avx2", "AVX2"),
    InstructionSet("avx512", "avx512_f", _NEWEST, "AVX512_CORE_VNNI", "avx512", "AVX512"),
    InstructionSet("avx512_bf16", "avx512_bf16", ("amx",), "AVX512_CORE_BF16", "avx512", "AVX512"),
    InstructionSet("amx", "amx_tile", (), "DEFAULT", "avx512", "AVX512"),
)


def hide() -> None:
    """Remove the hidden capabilities from those that torch reports.

    An entry point of torch's group `torch.backends`, called at the end of its import.
    """
    import torch

    hidden = tuple(os.environ[_HIDDEN].split())
    found = torch.cpu.get_capabilities()
    left = {name: has for name, has in found.items() if not name.startswith(hidden)}
    torch.cpu.get_capabilities = lambda: left
    if not left.get("avx512_f"):
        # torch would ask oneDNN for bfloat16 products, which it has on AVX-512 only.
        torch.backends.mkldnn.set_flags(_enabled=False)


def main() -> int:
    """Run the command under each set and print how each ended."""
    options = _options()
    has = _capabilities()
    ends = {
        each.name: _run(each, options.command) if has.get(each.needs) else _ABSENT
        for each in SETS
        if each.name in options.sets
    }
    for name, end in ends.items():
        print(f"{name:12} {end}")
    ran = [end for end in ends.values() if end != _ABSENT]
    return int(len(ran) < min(_FEWEST, len(ends)) or set(ran) != {_WELL})


def _run(each: InstructionSet, command: list[str]) -> str:
    print(f"==> {each.name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | each.environment(Path(folder))
        code = subprocess.run(command, env=environment, check=False).returncode
    return f"failed with exit code {code}" if code else _WELL


def _capabilities() -> dict[str, bool]:
    import torch

    return dict(torch.cpu.get_capabilities())


def _options() -> argparse.Namespace:
    names = [each.name for each in SETS]
    parser = command_line("tools.instruction_sets", _HELP)
    parser.add_argument("--sets", help=f"names joined by commas: {','.join(names)}")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    options = parser.parse_args()
    options.sets = options.sets.split(",") if options.sets else names
    if unknown := set(options.sets) - set(names):
        parser.error(f"--sets: must be among {', '.join(names)}, got {', '.join(sorted(unknown))}")
    if not options.command:
        parser.error("command: give one")
    return options


if __name__ == "__main__":
    sys.exit(main())
