"""The campaign of `scripts/faults.py`, small: a moment or two of each kind that needs no server of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.kinds import KINDS, Campaign, spread

pytestmark = pytest.mark.slow
# which trials of each kind: by its number a trial has its disturbance, of which most come here once
TRIALS = {"run": (0, 3), "sweep": (1, 5), "fair": (4,), "report": (2,), "create": (0,), "disk": (0,)}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    made = Campaign(Path(tmp_path_factory.mktemp("campaign")), seed=16)
    yield made
    made.close()


@pytest.mark.parametrize("kind", TRIALS)
def test_what_is_disturbed_holds(campaign, kind):
    outcomes = [campaign.trial(kind, number) for number in TRIALS[kind]]
    assert [str(outcome) for outcome in outcomes if outcome.verdict not in ("held", "skipped")] == []
    if {outcome.verdict for outcome in outcomes} == {"skipped"}:
        pytest.skip(str(outcomes[0]))


def test_every_disturbance_has_a_turn():
    """So many trials of each kind: each disturbance meets each command."""
    counts = Counter(name for name, _ in spread(400, None))
    for name, kind in KINDS.items():
        assert counts[name] >= len(kind.disturbances) * len(kind.commands), name
