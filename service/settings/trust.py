"""Settings of the keys whose signatures make an adapter trusted."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from service.settings.section import Section


class TrustSettings(Section):
    """Signatures of adapters, checked before an adapter is loaded."""

    keys: Path | None = Field(
        None,
        description="Public key in PEM, or folder of such keys (`*.pem`), relative to this file. "
        "With it, an adapter that has a signature must be signed by one of them.",
    )
    require: bool = Field(
        False, description="Refuse adapters that have no signature; needs `keys`."
    )

    @model_validator(mode="after")
    def _keys_to_require(self) -> Self:
        if self.require and self.keys is None:
            raise ValueError("require: needs keys to check signatures against")
        return self
