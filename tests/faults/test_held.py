"""What the campaign takes for lost: each single damage to a whole record is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from faults.held import Record, torn, wrong

POINTS = {"train/loss": [(10, 3.0), (20, 2.0), (30, 1.0)], "val/mae": [(30, 1.5)]}
TAGS = {
    "lossbench.kind": "run",
    "loss": "mse",
    "seed": "0",
    "lossbench.comparison": "one",
    "lossbench.outcome": "finished",
}
RUN = Record("FINISHED", TAGS, POINTS, ["config.yaml", "model.safetensors"])
COMPARISON = Record("FINISHED", {"lossbench.kind": "comparison", "lossbench.comparison": "one"}, {}, ["report.html"])
WHOLE = [COMPARISON, RUN, replace(RUN, tags={**TAGS, "seed": "1"})]


def changed(**points):
    return replace(RUN, points={**POINTS, **{name.replace("_", "/"): told for name, told in points.items()}})


DAMAGES = {
    "missing": [COMPARISON, WHOLE[2]],
    "twice": [*WHOLE, RUN],
    "left RUNNING": [COMPARISON, replace(RUN, status="RUNNING"), WHOLE[2]],
    "nobody asked": [*WHOLE, replace(RUN, tags={**TAGS, "seed": "2"})],
    "blamed": [*WHOLE, replace(RUN, status="FAILED", tags={**TAGS, "lossbench.outcome": "failed"})],
    "another outcome": [COMPARISON, replace(RUN, tags={**TAGS, "lossbench.outcome": "collapsed"}), WHOLE[2]],
    "a file short": [COMPARISON, replace(RUN, files=["config.yaml"]), WHOLE[2]],
    "a hole": [COMPARISON, changed(train_loss=[(10, 3.0), (30, 1.0)]), WHOLE[2]],
    "a point twice": [COMPARISON, changed(train_loss=[(10, 3.0), (20, 2.0), (20, 2.0), (30, 1.0)]), WHOLE[2]],
    "another number": [COMPARISON, changed(val_mae=[(30, 1.5000000000000002)]), WHOLE[2]],
    "a metric too many": [COMPARISON, changed(test_mae=[(30, 1.0)]), WHOLE[2]],
    "no comparison": WHOLE[1:],
    "two comparisons": [*WHOLE, COMPARISON],
    "no report": [replace(COMPARISON, files=[]), *WHOLE[1:]],
    "in another comparison": [COMPARISON, replace(RUN, tags={**TAGS, "lossbench.comparison": "two"}), WHOLE[2]],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_seen(damage):
    assert wrong(WHOLE, WHOLE, exact=True) == []
    assert wrong(WHOLE, DAMAGES[damage], exact=True) != []


def test_a_beginning_is_no_damage_and_a_hole_is_one():
    begun = replace(changed(train_loss=[(10, 3.0), (20, 2.0)], val_mae=[]), status="RUNNING")
    assert torn(WHOLE, [begun], exact=True) == []
    assert torn(WHOLE, [replace(begun, points={"train/loss": [(20, 2.0)]})], exact=True) != []
    assert torn(WHOLE, [replace(begun, points={"train/loss": [(10, 3.5)]})], exact=True) != []
