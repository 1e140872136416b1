"""Standings of names, from the changes alone, and the changes that a configuration makes."""

from service.plugins.rollouts.log import Change, Event
from service.plugins.rollouts.settings import PlanSettings
from service.plugins.rollouts.standing import Standing, due, standings, step_of

A, B, C = (f"sha256:{digit * 64}" for digit in "abc")
SHARES = (0.05, 0.25, 0.5)


def plan(
    digest: str = B, shares: tuple[float, ...] = SHARES, shadow: dict[str, float] | None = None
) -> PlanSettings:
    steps = [{"share": share, "requests": 10} for share in shares]
    return PlanSettings.model_validate(
        {
            "source": "next",
            "digest": digest,
            "sticky": "request",
            "shadow": shadow,
            "canary": steps,
        }
    )


class Book:
    """A name's changes, as a log numbers them."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    @property
    def standing(self) -> Standing:
        return standings(self.changes).get("n", Standing())

    def configure(
        self, digest: str, plan: PlanSettings | None, *, loaded: bool = True
    ) -> list[str]:
        """Configure the name; the events that follow."""
        found = due("n", self.standing, digest, plan, loaded=loaded)
        self.write(*found)
        return [f"{each.event} {each.before and each.before[7]}>{each.after[7]}"
                for each in found if each.after]  # fmt: skip

    def write(self, *changes: Change) -> None:
        for change in changes:
            number = len(self.changes) + 1
            fields = (change.name, change.event, change.by, change.before, change.after)
            self.changes.append(Change(*fields, change.share, (), number))

    def decided(self, event: Event, before: str, after: str, share: float = 1.0) -> None:
        self.write(Change("n", event, "rule:x", before, after, share))


def test_a_plan_begins_with_its_first_step_and_goes_on_after_a_restart() -> None:
    book = Book()
    assert book.configure(A, plan()) == ["configured None>a", "step a>b"]
    assert (book.standing.live, book.standing.successor, book.standing.share) == (A, B, 0.05)
    book.decided(Event.STEP, A, B, 0.25)
    assert book.configure(A, plan()) == []
    assert (book.standing.share, book.standing.since) == (0.25, 3)


def test_a_plan_begins_with_its_shadow_and_goes_on_without_one_that_is_removed() -> None:
    book, shadowed = Book(), plan(shadow={"requests": 10, "share": 0.5})
    assert book.configure(A, shadowed) == ["configured None>a", "shadow a>b"]
    assert (book.standing.successor, book.standing.share) == (B, 0.0)
    assert book.configure(A, shadowed) == []
    assert book.configure(A, plan()) == ["step a>b"]
    assert book.configure(A, shadowed) == []
    assert (book.standing.share, book.standing.since) == (0.05, 3)


def test_a_version_that_went_live_stays_until_the_plan_goes() -> None:
    book = Book()
    book.configure(A, plan())
    book.decided(Event.FULL, A, B)
    assert book.configure(A, plan()) == []
    assert (book.standing.live, book.standing.released) == (B, True)
    assert book.configure(B, plan()) == []
    assert book.configure(B, None) == []
    assert book.configure(A, None) == ["configured b>a"]


def test_a_version_that_was_rolled_back_is_not_tried_again_until_a_person_or_its_digest() -> None:
    book = Book()
    book.configure(A, plan())
    book.decided(Event.ROLLED_BACK, B, A)
    assert (book.standing.live, book.standing.successor) == (A, None)
    assert book.configure(A, plan()) == []
    assert book.configure(A, plan(C)) == ["step a>c"]
    assert book.configure(A, plan()) == ["withdrawn c>a"]
    book.write(Change("n", Event.RETRIED, "person:ann", A, B, 0.0))
    assert book.configure(A, plan()) == ["step a>b"]


def test_a_version_that_cannot_be_loaded_is_not_begun_and_one_in_progress_waits() -> None:
    book = Book()
    assert book.configure(A, plan(), loaded=False) == ["configured None>a"]
    assert book.configure(A, plan()) == ["step a>b"]
    assert book.configure(A, plan(), loaded=False) == []
    assert book.standing.successor == B


def test_another_old_version_begins_the_plan_anew() -> None:
    book = Book()
    book.configure(A, plan())
    book.decided(Event.STEP, A, B, 0.5)
    assert book.configure(C, plan()) == ["configured a>c", "step c>b"]
    assert book.standing.share == 0.05


def test_the_next_version_configured_by_hand_ends_the_plan() -> None:
    book = Book()
    book.configure(A, plan())
    assert book.configure(B, plan()) == ["configured a>b"]
    assert book.standing.successor is None


def test_changed_steps_go_on_at_the_next_larger_share() -> None:
    assert [step_of(plan(), share) for share in (0.05, 0.1, 0.5, 0.9)] == [0, 1, 2, 2]
    book = Book()
    book.configure(A, plan())
    assert book.configure(A, plan(shares=(0.1, 0.5))) == ["step a>b"]
    assert book.standing.share == 0.1
