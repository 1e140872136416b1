"""The table of operations, against the routes in the source."""

import ast

from service.common.operations import OPERATIONS
from service.plugins.guards.fields import GUARDED, UNGUARDED
from service.runtime.parts import plugin_types
from tests.architecture.source import modules


def posted() -> set[str]:
    """Paths of every `@router.post(...)` of the public app."""
    return {
        path
        for name, file in modules().items()
        if name.startswith(("service.routes.", "service.plugins."))
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).endswith(".post")
        and ast.unparse(call.func) != "app.post"  # of the admin port
        and isinstance(path := ast.literal_eval(call.args[0]), str)
        and not path.endswith("}/cancel")  # has no body
    }


def test_every_post_route_has_an_operation_and_every_operation_a_route() -> None:
    of_plugins = [kind.operations for kind in plugin_types().values()]
    assert posted() == OPERATIONS.keys() | {path for each in of_plugins for path in each}


def test_every_posted_route_is_guarded_or_not_for_a_reason() -> None:
    listed = {*GUARDED, *UNGUARDED} - {"/v1/batches/{batch_id}/cancel"}
    assert listed == posted()
