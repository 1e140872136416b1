"""The parts of vLLM that the service uses: imported names, and members declared in `USES`.

    python -m tools.vllm_uses

Prints how many names, modules and files outside service/vllm/fast and service/vllm/patches import
vLLM. `python -m tools.generate` writes the list of docs/vllm.md.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools.command_line import command_line
from tools.markdown_pages import item, page_with

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "vllm.md"
SERVICE = ROOT / "service"
APART = (SERVICE / "vllm" / "fast", SERVICE / "vllm" / "patches")
"""Folders that may stand on vLLM's insides."""

VERBS = ("calls", "reads", "extends", "fields of", "replaces", "mirrors")
"""How a module uses a member. One that it `mirrors` does what the module does in its own way."""


class Use(NamedTuple):
    """One use of a member, as `module:Class.member`, at a line of a file."""

    file: Path
    line: int
    how: str
    member: str

    @property
    def place(self) -> str:
        """The file, from the repository's root, and the line."""
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def imported() -> list[Use]:
    """The names of vLLM that the service imports, also within functions."""
    return [
        Use(file, node.lineno, "imports", f"{node.module}:{each.name}")
        for file, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and not node.level
        and (node.module or "").split(".")[0] == "vllm"
        for each in node.names
    ]


def declared() -> list[Use]:
    """The members that modules declare; ValueError for a declaration that cannot be read."""
    found = []
    for file, tree in _modules():
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "USES":
                assert isinstance(node.value, ast.Tuple)
                found += [use for each in node.value.elts for use in _uses(file, each)]
    return found


def _uses(file: Path, node: ast.expr) -> list[Use]:
    """The uses of a declaration: further members of the same class stand after commas."""
    text = ast.literal_eval(node)
    how = next((verb for verb in VERBS if text.startswith(f"{verb} vllm")), None)
    if how is None or text.count(":") != 1:
        raise ValueError(f"{file}:{node.lineno}: expected one of {VERBS} and a member: {text!r}")
    module, _, path = text.removeprefix(f"{how} ").partition(":")
    first, *others = path.split(", ")
    owner = first[: first.rfind(".") + 1]
    members = [first, *(f"{owner}{name}" for name in others)]
    return [Use(file, node.lineno, how, f"{module}:{member}") for member in members]


def _modules() -> Iterator[tuple[Path, ast.Module]]:
    for file in sorted(SERVICE.rglob("*.py")):
        yield file, ast.parse(file.read_text(encoding="utf-8"))


def is_apart(file: Path) -> bool:
    """True for a file of the fast client or of the patches."""
    return any(file.is_relative_to(folder) for folder in APART)


def counted() -> tuple[int, int, int]:
    """Names, modules and files that import vLLM outside of the fast client and the patches."""
    found = [use for use in imported() if not is_apart(use.file)]
    modules = {use.member.partition(":")[0] for use in found}
    return len({use.member for use in found}), len(modules), len({use.file for use in found})


def fast_members() -> list[str]:
    """The members that the fast client declares, in order, as recorded for tested versions."""
    return sorted({use.member for use in declared() if use.file.is_relative_to(APART[0])})


def table() -> str:
    """A Markdown table of the declared members, by file."""
    by_file: dict[Path, list[Use]] = defaultdict(list)
    for use in declared():
        by_file[use.file].append(use)
    lines = ["| file | how | members |", "| --- | --- | --- |"]
    for file, uses in by_file.items():
        for verb in VERBS:
            members = [f"`{use.member.partition(':')[2]}`" for use in uses if use.how == verb]
            if members:
                shown = file.relative_to(SERVICE).as_posix().removeprefix("vllm/")
                lines.append(f"| `{shown}` | {verb} | {', '.join(members)} |")
    return "\n".join(lines)


def patches() -> str:
    """A Markdown list of the patches: what unpatched vLLM does, and until which release."""
    lines: list[str] = []
    for file, tree in _modules():
        if file.parent.name != "patches" or file.stem == "__init__":
            continue
        because = (ast.get_docstring(tree) or "").partition("\n")[0].removesuffix(".")
        told = {ast.unparse(n.targets[0]): n.value for n in tree.body if isinstance(n, ast.Assign)}
        more = "".join(
            f" ({before}{ast.literal_eval(told[name])})"
            for name, before in (("UPSTREAM", ""), ("UNTIL", "until "))
            if name in told
        )
        lines.append(item(f"`{file.name}`: {because}{more}"))
    return "\n".join(lines)


def page() -> str:
    """docs/vllm.md with the current list of patches."""
    return page_with(PAGE, "patches", patches())


def main() -> int:
    """Print the counts and the table; returns the exit code."""
    command_line("tools.vllm_uses", __doc__).parse_args()
    names, modules, files = counted()
    print(f"outside fast and patches: {names} names of {modules} modules, by {files} files")
    print(f"declared beyond imports: {len(declared())} members\n\n{table()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
