"""Rights are asked in one place: what a request may use is decided once, before its route works."""

import re

from tests.architecture.source import modules


def test_one_module_asks_what_a_tenant_may_use() -> None:
    users = {
        name
        for name, file in modules().items()
        if re.search(r"\.may_use_\w+\(", file.read_text(encoding="utf-8"))
    }
    assert users == {"service.fleet.models"}
