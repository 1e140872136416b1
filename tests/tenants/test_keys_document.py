"""Keys files: what is read from them, and messages that name the line and show no key."""

from datetime import UTC, datetime

import pytest

from service.errors import ConfigurationError
from service.tenants.keyring import QuotaRecord, parse_keys
from service.tenants.tenant import Quota, Tenant, Tier

HASH = "0f" * 32
WHOLE = f"""
tenants:
  - name: acme
    weight: 3
    models: [base]
    adapters: "*"
    quotas: {{requests_per_minute: 60, tokens_per_day: 1000}}
    salt_group: partners
    keys:
      - sha256: "{HASH}"
        expires: 2027-01-01T00:00:00Z
      - sha256: "{"1e" * 32}"
  - name: least
    models: []
    adapters: []
    keys: []
"""


def test_every_field_is_read() -> None:
    acme, least = parse_keys("keys.yaml", WHOLE.encode())
    assert acme.record.tenant() == Tenant(
        "acme",
        weight=3,
        models=frozenset({"base"}),
        adapters=None,
        quotas=(Quota("requests", 60, 60), Quota("tokens", 1000, 86_400)),
        salt_group="partners",
    )
    assert least.record.tenant() == Tenant("least", models=frozenset(), adapters=frozenset())
    assert [key.id for key in acme.record.keys] == [HASH[:12], "1e" * 6]
    end = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    first, second = acme.record.keys
    assert (first.live(end - 1), first.live(end), second.live(end)) == (True, False, True)
    assert (acme.place, least.place) == ("keys.yaml:3", "keys.yaml:13")
    assert acme.key_places == ["keys.yaml:10", "keys.yaml:12"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weight: 3", "weight: 0", r"keys.yaml:4: tenants\[0\].weight: .*greater than 0, got 0"),
        ("weight: 3", "wieght: 3", r"keys.yaml:4: tenants\[0\].wieght: unknown key.*'weight'"),
        ("weight: 3", "weight: .inf", r"keys.yaml:4: tenants\[0\].weight: "),
        ("weight: 3", "service_tiers: []", r"keys.yaml:4: tenants\[0\].service_tiers: "),
        (
            "weight: 3",
            "service_tiers: [fast]",
            r"keys.yaml:4: tenants\[0\].service_tiers\[0\]: .*'flex'",
        ),
        ("weight: 3", "service_tiers: [flex, flex]", r"keys.yaml:4: .*each tier at most once"),
        ("name: acme", "name: 'a b'", r"keys.yaml:3: tenants\[0\].name: .*got 'a b'"),
        ("models: [base]", "models:", r"keys.yaml:5: .*models: must be '\*' or a list.*got null"),
        ("models: [base]", "models: base", r"keys.yaml:5: .*models: must be .* got 'base'"),
        ("models: [base]", "models: ['*']", r"keys.yaml:5: tenants\[0\].models"),
        ('    adapters: "*"\n', "", r"keys.yaml:3: tenants\[0\].adapters: required"),
        ("requests_per_minute: 60", "requests_per_minute: 0", r"keys.yaml:7: .*got 0"),
        ("requests_per_minute", "requests_per_hour", r"keys.yaml:7: .*did you mean 'requests_per"),
        ("tokens_per_day: 1000", "tokens_per_minute: many", r"keys.yaml:7: .*got 'many'"),
        (f'sha256: "{HASH}"', "sha256: sk-secret", r"keys.yaml:10: tenants\[0\].keys\[0\].sha256"),
        (f'sha256: "{HASH}"', "sha256: secret", r"keys.yaml:10: tenants\[0\].keys\[0\].sha256"),
        (f'sha256: "{HASH}"', "sha265: abc", r"keys.yaml:10: .*sha265: unknown key.*'sha256'"),
        (
            f'- sha256: "{HASH}"',
            "- sk-secret\n      - sha256: ab",
            r"keys.yaml:10: tenants\[0\].keys\[0\]",
        ),
        ("name: acme", "sk-secret: acme", r"keys.yaml:3: tenants\[0\].sk-...: unknown key"),
        ("salt_group: partners", "salt_group: sk-secret/", r"keys.yaml:8: tenants\[0\].salt_group"),
        ("00:00:00Z", "00:00:00", r"keys.yaml:11: tenants\[0\].keys\[0\].expires: .*timezone"),
        ("weight: 3", "weight: 3\n    weight: 4", r"keys.yaml:5: .*'weight' is given twice"),
        ("weight: 3", "weight: [sk-secret", r"keys.yaml:\d+: not valid YAML"),
        ("tenants:", "tenant:", r"keys.yaml:2: tenant: unknown key.*'tenants'"),
        ("weight: 3", "weight: !!python/name:os.system", r"keys.yaml:4: not valid YAML"),
    ],
)
def test_a_mistake_names_its_line_and_shows_no_key(old: str, new: str, message: str) -> None:
    assert old in WHOLE
    with pytest.raises(ConfigurationError, match=message) as refused:
        parse_keys("keys.yaml", WHOLE.replace(old, new, 1).encode())
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text", [b"", b"- a", b"tenants", b"\xff\xfe\xfa", b"a: \x00", b"[" * 5000, b"tenants: 3"]
)
def test_a_text_that_is_no_keys_file_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"^keys\.yaml"):
        parse_keys("keys.yaml", text)


def test_each_quota_has_its_period() -> None:
    record = QuotaRecord(
        requests_per_minute=1, requests_per_day=2, tokens_per_minute=3, tokens_per_day=4
    )
    assert record.quotas() == (
        Quota("requests", 1, 60),
        Quota("requests", 2, 86_400),
        Quota("tokens", 3, 60),
        Quota("tokens", 4, 86_400),
    )


def test_the_first_tier_is_that_of_the_file() -> None:
    text = WHOLE.replace("weight: 3", "service_tiers: [flex, default]")
    acme, _ = parse_keys("keys.yaml", text.encode())
    assert acme.record.tenant().tiers == (Tier.FLEX, Tier.DEFAULT)


def test_what_is_missing_from_the_whole_file_is_told_at_its_beginning() -> None:
    with pytest.raises(ConfigurationError, match=r"^keys\.yaml:3: tenants: required"):
        parse_keys("keys.yaml", b"\n\n{}")


def test_every_mistake_is_reported_at_once() -> None:
    text = WHOLE.replace("weight: 3", "weight: -1").replace("name: least", "name: ''")
    with pytest.raises(ConfigurationError) as refused:
        parse_keys("keys.yaml", text.encode())
    assert [line.split(": ")[0] for line in str(refused.value).splitlines()] == [
        "keys.yaml:4",
        "keys.yaml:13",
    ]
