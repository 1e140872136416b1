"""A cache of what is made of tenants' texts, which no tenant can empty or read by its timing."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from service.context import current_context

Key = TypeVar("Key", bound=Hashable)
Entry = TypeVar("Entry")

CAPACITY = 1 << 20
_LEAST_WEIGHT = 4096


class TenantCache(Generic[Key, Entry]):
    """Entries by tenant and key; drops the least recently used ones.

    Tenants share no entries, because response times would reveal another tenant's texts. An entry's
    weight is the length of its text in bytes, at least 4 KiB. Its tokens take up to 150 times as
    much; all entries together take at most 180 MB. Above `capacity` the tenant that holds most
    loses its oldest entry, so no tenant can evict others' entries.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._held: dict[str, OrderedDict[Key, tuple[int, Entry]]] = {}

    def entry(self, key: Key, weight: int, new: Callable[[], Entry]) -> Entry:
        """The tenant's entry of this key, made if there is none."""
        own = self._held.setdefault(current_context().tenant.cache_domain, OrderedDict())
        if found := own.get(key):
            own.move_to_end(key)
            return found[1]
        made = new()
        own[key] = max(weight, _LEAST_WEIGHT), made
        while sum(map(_weight, self._held.values())) > self._capacity:
            max(self._held.values(), key=_weight).popitem(last=False)
        return made

    def drop(self, key: Key, entry: Entry) -> None:
        """Forget an entry that could not be filled, unless another has taken its place."""
        own = self._held[current_context().tenant.cache_domain]
        if key in own and own[key][1] is entry:
            del own[key]


def _weight(held: OrderedDict[Key, tuple[int, Entry]]) -> int:
    return sum(weight for weight, _ in held.values())
