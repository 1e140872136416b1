"""The service's modules as syntax trees, and what each imports."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


def modules(*packages: str) -> dict[str, Path]:
    """Dotted names of the modules of packages, default the service's, with their files."""
    found = {}
    for package in packages or ("service",):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names that a file imports, at any depth of the code.

    `from a import b` counts as `a` and, since b may be a module, as `a.b`.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)
