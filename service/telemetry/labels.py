"""Label values whose number is bounded, whatever clients send."""

from typing import NamedTuple

from service.context import RequestContext

OTHER = "other"
"""Label for all names beyond the limit."""


class BoundedNames:
    """Names as labels: the first `limit` names unchanged, every later one as `OTHER`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def __call__(self, name: str) -> str:
        if name in self._names:
            return name
        if len(self._names) >= self._limit:
            return OTHER
        self._names.add(name)
        return name


class Key(NamedTuple):
    """Labels of a request's series: route, model, tenant and service tier."""

    route: str
    model: str
    tenant: str
    service_tier: str


class RequestLabels:
    """The keys of requests: at most `max_tenants` tenants, at most `max_combinations` keys.

    Beyond either limit the tenant counts as `OTHER`, so there are at most `max_combinations` keys
    and one more for each route, model and tier. Routes are the service's own. Models are served
    names, adapters without their versions.
    """

    def __init__(self, max_tenants: int, max_combinations: int) -> None:
        self._tenants = BoundedNames(max_tenants)
        self._max_combinations = max_combinations
        self._keys: dict[tuple[str, str, str, str], Key] = {}

    def tenant(self, name: str) -> str:
        """A tenant's label."""
        return self._tenants(name)

    def of(self, context: RequestContext) -> Key:
        """The key of a request, from the fields known so far."""
        model = context.unversioned_model
        name = (context.route, model, context.tenant.name, context.tier)
        key = self._keys.get(name)
        if key is not None:
            return key
        key = Key(context.route, model, self._tenants(context.tenant.name), context.tier)
        if len(self._keys) < self._max_combinations and key.tenant != OTHER:
            self._keys[name] = key
            return key
        return key._replace(tenant=OTHER)
