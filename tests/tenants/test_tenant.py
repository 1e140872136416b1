"""Rights of a tenant, and the tenants that it shares caches with."""

from service.tenants.tenant import ANONYMOUS, SERVICE, CacheSalts, Tenant


def test_without_lists_every_name_may_be_used() -> None:
    assert ANONYMOUS.may_use_base("base")
    assert ANONYMOUS.may_use_adapter("any@1.0.0")


def test_a_list_is_all_that_may_be_used() -> None:
    tenant = Tenant("t", models=frozenset({"base"}), adapters=frozenset({"a"}))
    assert tenant.may_use_base("base")
    assert not tenant.may_use_base("a")
    assert tenant.may_use_adapter("a")
    assert tenant.may_use_adapter("a@1.0.0")
    for other in ("b", "A", "a ", "aa", "", "base", "@a"):
        assert not tenant.may_use_adapter(other)


def test_salts_differ_by_tenant_weights_and_process() -> None:
    salts = CacheSalts()
    first, second = Tenant("first"), Tenant("second")
    everyone = (first, second, ANONYMOUS, SERVICE)
    drawn = [salts.salt(tenant, weights) for tenant in everyone for weights in ("", "a@1", "a@2")]
    assert len(set(drawn)) == len(drawn)
    assert all(len(salt) == 64 for salt in drawn)
    assert salts.salt(first, "a@1") == salts.salt(Tenant("first", weight=3), "a@1")
    assert salts.salt(first, "") != CacheSalts().salt(first, "")


def test_tenants_of_one_group_share_a_salt_and_nobody_else_gets_it() -> None:
    salts = CacheSalts()
    one, other = Tenant("one", salt_group="g"), Tenant("other", salt_group="g")
    assert salts.salt(one, "a") == salts.salt(other, "a")
    assert salts.salt(one, "a") != salts.salt(one, "b")
    for stranger in (Tenant("g"), Tenant("one"), Tenant("x", salt_group="h")):
        assert salts.salt(stranger, "a") != salts.salt(one, "a")
