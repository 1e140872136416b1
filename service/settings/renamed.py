"""Keys of the last version, which keep working for this one."""

import logging
from typing import Any

_log = logging.getLogger(__name__)


def with_new_names(values: Any) -> Any:
    """A configuration with the new names of renamed keys; each old one is warned of."""
    http = values.get("http") if isinstance(values, dict) else None
    if not isinstance(http, dict) or "push_streams" not in http:
        return values
    _log.warning("http.push_streams: replaced by engine.client; false is `stock` there")
    http = {**http}
    if str(http.pop("push_streams")).lower() not in ("false", "0", "no", "off"):
        return values | {"http": http}
    return values | {"http": http, "engine": {"client": "stock", **values.get("engine", {})}}
