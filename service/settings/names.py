"""Names of settings: their variables in the environment, and old names that still work."""

import logging
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)

ENV_PREFIX = "LLM_SERVICE_"
NESTING = "__"
OLD_SECTIONS = {"gate": "admission"}
"""New names of sections by their old ones, which work for one version more."""
_RENAMED = "%s: renamed to %s; the old name works for one version more"


def with_new_names(values: Any) -> Any:
    """A configuration with renamed keys replaced by their new names; logs a warning for each."""
    if not isinstance(values, dict):
        return values
    for old, new in OLD_SECTIONS.items():
        if old in values:
            _log.warning(_RENAMED, old, new)
            values = {**values}
            values = _filled(values, {new: values.pop(old)})
    http = values.get("http")
    if not isinstance(http, dict) or "push_streams" not in http:
        return values
    _log.warning("http.push_streams: replaced by engine.client; false is `stock` there")
    http = {**http}
    if str(http.pop("push_streams")).lower() not in ("false", "0", "no", "off"):
        return values | {"http": http}
    return values | {"http": http, "engine": {"client": "stock", **values.get("engine", {})}}


def _filled(tree: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A tree with the values of another one where it has none itself."""
    shared = [key for key in tree.keys() & more.keys() if isinstance(tree[key], dict)]
    inner = {key: _filled(tree[key], more[key]) for key in shared if isinstance(more[key], dict)}
    return more | tree | inner


def with_new_variables(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    """Variables of the environment, in lower case, with renamed sections under their new names."""
    found = dict(variables)
    for old, new in OLD_SECTIONS.items():
        section = f"{ENV_PREFIX}{old}".lower()
        for name in variables:
            if name == section or name.startswith(section + NESTING):
                now = f"{ENV_PREFIX}{new}".lower() + name.removeprefix(section)
                _log.warning(_RENAMED, name.upper(), now.upper())
                found.setdefault(now, found.pop(name))
    return found
