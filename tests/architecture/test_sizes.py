"""No module over 400 lines, no function over 50."""

import ast

from tests.architecture.source import modules

MODULE_LINES = 400
FUNCTION_LINES = 50


def test_modules_and_functions_stay_small() -> None:
    long: list[str] = []
    for name, path in modules("service", "training", "evaluation").items():
        text = path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > MODULE_LINES:
            long.append(f"{name}: {lines} lines")
        long += [
            f"{name}.{node.name}: {lines} lines"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
        ]
    assert long == []
