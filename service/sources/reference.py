"""The address of an artifact in an OCI registry."""

import re
from dataclasses import dataclass

from service.errors import ConfigurationError

# The names of the OCI distribution specification, 1.1; the tag or digest is required.
_ADDRESS = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]+(?::\d{1,5})?)"
    r"/(?P<repository>[a-z0-9]+(?:(?:\.|_|__|-+|/)[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """The place of an artifact; `version` is a tag, or a digest whose bytes cannot change."""

    host: str
    repository: str
    version: str

    @property
    def is_digest(self) -> bool:
        """True if the version names bytes; a tag holds no colon."""
        return ":" in self.version

    @property
    def name(self) -> str:
        """A name to show while its own is not known."""
        return self.repository.rpartition("/")[2]


def parse_reference(uri: str, kind: str) -> Reference:
    """The artifact of an oci:// address, `kind` of thing; raises ConfigurationError."""
    found = _ADDRESS.fullmatch(uri)
    if found is None:
        raise ConfigurationError(
            f"{kind} source {uri}: expected oci://host/repository:tag or "
            "oci://host/repository@sha256:<64 hex>"
        )
    return Reference(found["host"], found["repository"], found["tag"] or found["digest"])
