"""The next versions of deploy/local/canary.yaml are those that its digests name."""

from pathlib import Path

from service.adapters.manifest_yaml import load_manifest
from service.plugins.rollouts.settings import ReleaseSettings
from service.settings.load import load_settings
from tests.canaries.kinds import KINDS
from tests.canaries.local import FOLDER, write_all
from tests.canaries.poison import poison
from tests.canaries.successors import read_weights


def test_the_committed_digests_are_those_of_what_is_written(tmp_path: Path) -> None:
    settings = load_settings(Path("deploy/local/canary.yaml"))
    plans = settings.section(ReleaseSettings).plans
    written = write_all(tmp_path)
    assert {name: plan.digest for name, plan in plans.items()} == written
    for name, plan in plans.items():
        assert Path(plan.source).resolve() == (FOLDER / name).resolve()
        assert load_manifest(tmp_path / name).digest == written[name]


def test_every_kind_changes_what_it_says() -> None:
    for name, kind in KINDS.items():
        changes = (kind.weights, kind.draft, kind.later)
        assert kind.good == (changes == (None, None, None)), name
        if kind.weights not in (None, poison):  # which trains for minutes
            before = read_weights(kind.adapter)
            after = kind.weights(before)
            assert after.keys() == before.keys()
            assert any(not after[each].equal(before[each]) for each in before), name
            assert all(after[each].dtype == before[each].dtype for each in before), name
