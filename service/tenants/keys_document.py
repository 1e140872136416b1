"""A keys file: the tenants, their rights and quotas, and the hashes of their keys."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from service.errors import ConfigurationError
from service.plain_yaml import parse
from service.quoting import Problem, problems
from service.settings.section import ServedName
from service.tenants.key import PREFIX, key_id
from service.tenants.tenant import Counted, Quota, Tenant, Tier

ALL = "*"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _names(value: object) -> object:
    if value == ALL:
        return None
    if not isinstance(value, list):
        raise ValueError("must be '*' or a list of names")
    return value


def _distinct(tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    if len(set(tiers)) < len(tiers):
        raise ValueError("each tier at most once")
    return tiers


Names = Annotated[frozenset[ServedName] | None, BeforeValidator(_names)]
"""`*`, every name, becomes None."""

Amount = Annotated[int | None, Field(ge=1, le=10**15)]


class KeyRecord(_Part):
    """One key, by its hash."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    expires: AwareDatetime | None = None

    @property
    def id(self) -> str:
        """Name of the key: the first digits of its hash."""
        return key_id(self.sha256)

    def live(self, now: float) -> bool:
        """True if the key is good at `now`, in seconds since 1970."""
        return self.expires is None or now < self.expires.timestamp()


class QuotaRecord(_Part):
    """Quotas of a tenant, for a minute and for a day (UTC)."""

    requests_per_minute: Amount = None
    requests_per_day: Amount = None
    tokens_per_minute: Amount = None
    tokens_per_day: Amount = None

    def quotas(self) -> tuple[Quota, ...]:
        """The quotas that are set."""
        each: list[tuple[Counted, int | None, int]] = [
            ("requests", self.requests_per_minute, 60),
            ("requests", self.requests_per_day, 86_400),
            ("tokens", self.tokens_per_minute, 60),
            ("tokens", self.tokens_per_day, 86_400),
        ]
        return tuple(Quota(counted, amount, seconds) for counted, amount, seconds in each if amount)


class TenantRecord(_Part):
    """One tenant and its keys."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    weight: float = Field(1.0, gt=0, le=1000)
    models: Names
    adapters: Names
    quotas: QuotaRecord = QuotaRecord()
    salt_group: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    service_tiers: Annotated[tuple[Tier, ...], Field(min_length=1), AfterValidator(_distinct)] = (
        Tier.DEFAULT,
        Tier.FLEX,
    )
    keys: list[KeyRecord]

    def tenant(self) -> Tenant:
        """Tenant that a request with one of the keys comes from."""
        return Tenant(
            name=self.name,
            weight=self.weight,
            models=self.models,
            adapters=self.adapters,
            quotas=self.quotas.quotas(),
            salt_group=self.salt_group,
            tiers=self.service_tiers,
        )


class _Document(_Part):
    tenants: list[TenantRecord]


@dataclass(frozen=True, slots=True)
class ListedTenant:
    """A tenant and where it is written, as `file:line`; `key_places` are those of its keys."""

    record: TenantRecord
    place: str
    key_places: Sequence[str]


def parse_keys(source: str, text: bytes) -> list[ListedTenant]:
    """The tenants of a keys file.

    Raises ConfigurationError with one line per problem, each naming file, line and field. Text that
    could be a key is not shown.
    """
    document, tree = parse(source, text)
    if not isinstance(document, dict):
        raise ConfigurationError(f"{source}:1: must hold a mapping with `tenants`")
    try:
        tenants = _Document.model_validate(document).tenants
    except ValidationError as error:
        found = problems(error.errors(include_url=False), _Document)
        lines = [f"{source}:{_line(tree, each.place)}: {_explain(each)}" for each in found]
        raise ConfigurationError("\n".join(lines)) from None
    return [
        ListedTenant(
            record,
            f"{source}:{_line(tree, ('tenants', index))}",
            [
                f"{source}:{_line(tree, ('tenants', index, 'keys', key))}"
                for key in range(len(record.keys))
            ],
        )
        for index, record in enumerate(tenants)
    ]


def _line(node: yaml.Node | None, loc: Sequence[str | int]) -> int:
    """The line of the node at `loc`, or of the closest node around it."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _explain(problem: Problem) -> str:
    field = re.sub(rf"{PREFIX}[^.]*", f"{PREFIX}...", problem.field)
    # A plain key in the wrong place must not appear in a log.
    secret = "keys" in problem.place or PREFIX in problem.given
    return f"{field}: {problem.reason}{'' if secret else problem.given}"
