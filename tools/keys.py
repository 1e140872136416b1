"""Keys files of tests and tools, and the keys that they hold the hashes of."""

import hashlib
import json
from pathlib import Path
from typing import Any

ALL: dict[str, Any] = {"models": "*", "adapters": "*"}


def key_of(tenant: str) -> str:
    """The key that a test's tenant has."""
    return f"sk-of-{tenant}"


def sha256_of(key: str) -> str:
    """The hash of a key, as a keys file has it."""
    return hashlib.sha256(key.encode()).hexdigest()


def entry(name: str, **fields: Any) -> dict[str, Any]:
    """A tenant that has `key_of(name)` and may use everything, with these fields instead."""
    return {"name": name, "keys": [{"sha256": sha256_of(key_of(name))}], **ALL, **fields}


def write_keys(path: Path, *tenants: dict[str, Any]) -> Path:
    """A keys file of these tenants; an existing file is overwritten in place."""
    path.write_text(json.dumps({"tenants": list(tenants)}))
    return path


def bearer(tenant: str) -> dict[str, str]:
    """The header that makes a request the tenant's."""
    return {"authorization": f"Bearer {key_of(tenant)}"}
