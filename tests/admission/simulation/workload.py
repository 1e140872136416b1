"""Arrivals: tenants, their requests and random faults, all drawn from one seed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from service.admission.background import widest
from service.settings.admission import BackgroundSettings

_GUEST_PART = 0.02
_BURST_PART = 0.02
_WHOLE_PART = 0.01
_BACKGROUND_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Tenant:
    """The traffic of one tenant; `part` is its part of the arrivals."""

    name: str
    weight: float
    part: float
    longest_prompt: int
    longest_output: int
    widest: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario: the tenants, their rates and the engine. Times in seconds."""

    seed: str
    tenants: tuple[Tenant, ...]
    ceiling: int
    max_waiting: int
    load: float
    token_per_slot: float
    patience: float
    leaving_part: float
    stall_part: float
    jump_part: float
    background: BackgroundSettings
    background_part: float

    @classmethod
    def draw(cls, seed: str) -> "Scenario":
        """The scenario of a seed."""
        random = Random(seed)
        tenants = tuple(
            Tenant(
                name=f"tenant-{number}",
                weight=random.choice((0.5, 1.0, 1.0, 1.0, 2.0, 3.0)),
                part=random.choice((0.1, 1.0, 1.0, 10.0)),
                longest_prompt=random.choice((20, 200, 2000)),
                longest_output=random.choice((1, 30, 300)),
                widest=random.choice((1, 1, 1, 4, 16)),
            )
            for number in range(random.choice((1, 2, 3, 5, 8)))
        )
        return cls(
            seed=seed,
            tenants=tenants,
            ceiling=random.choice((1, 4, 16, 64)),
            max_waiting=random.choice((0, 8, 64, 512)),
            load=random.choice((0.5, 0.9, 1.2, 2.0, 5.0)),
            token_per_slot=random.choice((0.002, 0.02)),
            patience=random.choice((2.0, 20.0, 200.0)),
            leaving_part=random.choice((0.0, 0.1)),
            stall_part=random.choice((0.0, 0.0, 1e-3)),
            jump_part=random.choice((0.0, 0.0, 1e-3)),
            background=BackgroundSettings(
                max_in_flight=random.choice((None, None, 1, 8)),
                max_queued=random.choice((0, 8, 512)),
                discount=random.choice((0.0, 0.5, 0.5, 1.0)),
            ),
            background_part=random.choice((0.0, 0.2, 0.5, 0.9, 1.0)),
        )


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request and its future, unknown to the scheduler; times in seconds from its arrival.

    `followers` more arrivals of the same request come with it; those have `follows`.
    """

    tenant: str
    number: int
    weight: float
    prompt: int
    cached: int
    slots: int
    most: int
    output: int
    patience: float
    leaves: float | None
    followers: int = 0
    follows: bool = False
    background: bool = False
    restartable: bool = False


def arrivals(scenario: Scenario, random: Random) -> Iterator[list[Arrival]]:
    """The arrivals of each request, for ever; bursts come from one tenant, guests come once."""
    tenants = scenario.tenants
    parts = [tenant.part for tenant in tenants]
    number = 0
    while True:
        (index,) = random.choices(range(len(tenants)), parts)
        burst = random.randint(2, 40) if random.random() < _BURST_PART else 1
        for _ in range(burst):
            number += 1
            first = _arrival(scenario, random, index, number)
            more = random.randint(1, 63) if random.random() < _WHOLE_PART else 0
            yield [
                replace(first, followers=more),
                *(replace(first, follows=True) for _ in range(more)),
            ]


def _arrival(scenario: Scenario, random: Random, index: int, number: int) -> Arrival:
    tenant = scenario.tenants[index]
    prompt = random.randint(1, tenant.longest_prompt)
    background = random.random() < scenario.background_part
    most_slots = widest(scenario.ceiling) if background else tenant.widest
    slots = random.randint(1, min(tenant.widest, most_slots))
    guest = random.random() < _GUEST_PART
    leaves = random.random() < scenario.leaving_part
    patience = scenario.patience * (_BACKGROUND_PATIENCE if background else 1.0)
    return Arrival(
        tenant=f"guest-{number}" if guest else tenant.name,
        number=number,
        weight=1.0 if guest else tenant.weight,
        prompt=prompt,
        cached=random.choice((0, 0, prompt // 2, prompt - 1)),
        slots=slots,
        most=tenant.longest_output,
        output=slots * random.randint(1, tenant.longest_output),
        patience=patience * random.uniform(0.2, 1.0),
        leaves=random.uniform(0, patience) if leaves else None,
        background=background,
        restartable=random.random() < 0.7,
    )
