"""Grammar rules for decimal numbers that are multiples of a step within bounds."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor

from service.schemas.languages import MAX_STATES, UnknownLanguage, Way, write_rules

_MOST_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Multiples:
    """The multiples of `step` from `least` to `most` (None for no bound)."""

    step: Decimal
    least: Decimal | None
    most: Decimal | None

    def values(self, most: int) -> list[int | float] | None:
        """All of them, None if there are more than `most`."""
        if self.least is None or self.most is None:
            return None
        first, last = ceil(self.least / self.step), floor(self.most / self.step)
        if last - first >= most:
            return None
        found = [self.step * each for each in range(first, last + 1)]
        return [int(each) if each == int(each) else float(each) for each in found]

    def rules(self, name: str) -> str:
        """Rules of a grammar for the numbers, the first named `name`.

        A number has as many decimals as the step, and no exponent. Raises UnknownLanguage.
        """
        decimals = max(0, -int(self.step.normalize().as_tuple().exponent))
        if decimals > _MOST_DECIMALS:
            raise UnknownLanguage
        scale = 10**decimals
        step = int(self.step * scale)
        least = None if self.least is None else ceil(self.least * scale / step) * step
        most = None if self.most is None else floor(self.most * scale / step) * step
        digits = _Digits(name, step, decimals)
        ways: list[tuple[str, str]] = []
        if most is None or most >= 0:
            ways += digits.between(max(0, least or 0), most)
        if least is None or least < 0:
            low = step if most is None or most >= 0 else -most
            negative = digits.between(low, None if least is None else -least)
            ways += [(f'"-" {text}', target) for text, target in negative]
        return write_rules(name, {name: ways, **digits.rules})


class _Digits:
    """Rules for the digits of multiples of `step`, the last `decimals` of them behind a point.

    A state is the remainder so far, and the number of digits still needed. Without an upper bound,
    a state that needs no digit before the point repeats.
    """

    def __init__(self, name: str, step: int, decimals: int) -> None:
        self._name = name
        self._step = step
        self._decimals = decimals
        self.rules: dict[str, list[Way]] = {}

    def between(self, low: int, high: int | None) -> list[Way]:
        """The digit sequences of numbers from `low` to `high`, both scaled and not negative."""
        if high is not None and low > high:
            return []
        least = max(len(str(low)), self._decimals + 1)
        longest = least if high is None else max(len(str(high)), self._decimals + 1)
        ways = []
        for length in range(least, longest + 1):
            first = str(low).zfill(length) if length == least else None
            last = str(high).zfill(length) if high is not None and length == longest else None
            ways.append(("", self._state("", length, first, last)))
        if high is None:
            ways.append(("", self._free(0, least + 1 - self._decimals, start=True)))
        return ways

    def _add(self, name: str, make: Iterator[Way]) -> str:
        if name not in self.rules:
            if len(self.rules) >= MAX_STATES:
                raise UnknownLanguage
            self.rules[name] = []
            self.rules[name] += make
        return name

    def _state(self, begun: str, length: int, low: str | None, high: str | None) -> str:
        """The rest of a number of `length` digits, of which `begun` are written.

        `low` and `high` bind if what is written is their beginning.
        """
        low = low if low is not None and low.startswith(begun) else None
        high = high if high is not None and high.startswith(begun) else None
        left, remainder = length - len(begun), int(begun or "0") % self._step
        if low is None and high is None and begun:
            return self._fixed(remainder, left)
        bound = f"{'l' if low else ''}{'h' if high else ''}{length}_{begun}"
        return self._add(f"{self._name}_{bound}", self._bound(begun, length, low, high))

    def _bound(self, begun: str, length: int, low: str | None, high: str | None) -> Iterator[Way]:
        at = len(begun)
        if at == length:
            if int(begun) % self._step == 0:
                yield '""', ""
            return
        point = '"." ' if length - at == self._decimals else ""
        one = length - self._decimals == 1
        for digit in range(10):
            if at == 0 and digit == 0 and not one:
                continue
            if (low and digit < int(low[at])) or (high and digit > int(high[at])):
                continue
            yield f'{point}"{digit}"', self._state(f"{begun}{digit}", length, low, high)

    def _fixed(self, remainder: int, left: int) -> str:
        """The last `left` digits of a number with this remainder so far."""
        name = f"{self._name}_{left}_{remainder}"
        if left == 0:
            return self._add(name, iter([('""', "")] if remainder == 0 else []))
        point = '"." ' if left == self._decimals else ""
        return self._add(
            name,
            (
                (f'{point}"{digit}"', self._fixed((remainder * 10 + digit) % self._step, left - 1))
                for digit in range(10)
            ),
        )

    def _free(self, remainder: int, needed: int, *, start: bool = False) -> str:
        """A number whose part before the point has at least `needed` more digits."""
        name = f"{self._name}_f{'s' if start else ''}{needed}_{remainder}"
        return self._add(name, self._more(remainder, needed, start=start))

    def _more(self, remainder: int, needed: int, *, start: bool) -> Iterator[Way]:
        if needed == 0:
            yield "", self._fixed(remainder, self._decimals)
        for digit in range(1 if start else 0, 10):
            after = self._free((remainder * 10 + digit) % self._step, max(0, needed - 1))
            yield f'"{digit}"', after
