"""The contract: the clauses that any loss has to pass so that it can be compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from lossbench.contract import batches, form, meaning, numbers
from lossbench.contract.calling import Broken, NotAsked, Trial
from lossbench.core.failures import one_line

Check = Callable[[Trial], str]


class Verdict(Enum):
    """What asking a clause comes to."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_ASKED = "not asked"


@dataclass(frozen=True)
class Clause:
    """`check` returns what was seen, or raises Broken or NotAsked. It is called if none of `after` is broken.

    `lost` says what is lost with a loss that breaks it; empty if such a loss cannot train.
    """

    name: str
    title: str
    check: Check
    after: tuple[str, ...] = ("callable",)
    lost: str = ""


@dataclass(frozen=True)
class Finding:
    """One clause's verdict on a loss: what was seen and, if broken, how to fix it."""

    clause: Clause
    verdict: Verdict
    seen: str
    fix: str = ""


PULLS = ("callable", "logits", "gradient")
ALONE = ("callable", "shape", "repeat", "order")
CLAUSES = (
    Clause(
        "signature",
        "prediction and target by position, settings by keyword, with defaults",
        form.signature,
        (),
        lost="settings are not all by keyword with defaults",
    ),
    Clause("callable", "takes what its task gives", form.callable_, ()),
    Clause("logits", "takes logits, not probabilities", numbers.logits),
    Clause(
        "shape",
        "one loss per example, or one number if its card says batch",
        form.shape,
        lost="no values of single examples, so runs of a stack are sequential",
    ),
    Clause("dtype", "losses in the prediction's floating type", form.dtype, lost="not in every floating type"),
    Clause("target", "looks at the target", meaning.target),
    Clause("gradient", "the gradient reaches the prediction", meaning.gradient),
    Clause(
        "generator",
        "leaves the global random generators alone",
        form.generator,
        lost="what it draws does not follow the seed alone",
    ),
    Clause("inputs", "does not write to prediction and target", form.inputs, lost="it writes to what it is given"),
    Clause("repeat", "two calls return the same", form.repeat, lost="two calls return different values"),
    Clause(
        "finite",
        "losses and gradient finite at extremes",
        numbers.finite,
        PULLS,
        lost="not finite far out, where a run diverges",
    ),
    Clause(
        "ends", "finite over its search ranges", numbers.ends, PULLS, lost="not finite at the ends of its search ranges"
    ),
    Clause(
        "slope",
        "the gradient is the slope",
        numbers.slope,
        (*PULLS, "dtype", "repeat"),
        lost="its gradient is not its slope",
    ),
    Clause(
        "order",
        "losses go with their examples",
        batches.order,
        ("callable", "shape", "repeat"),
        lost="per-example losses change with the order of the batch",
    ),
    Clause(
        "double",
        "the same in a batch twice as large",
        batches.double,
        ALONE,
        lost="per-example losses change with the size of the batch",
    ),
    Clause(
        "own",
        "an example's loss depends on that example alone",
        batches.own,
        (*ALONE, "double"),
        lost="per-example losses depend on the rest of the batch",
    ),
    Clause(
        "replica_batched",
        "takes replicas at once, if its card says replica_batched",
        batches.replicas,
        ALONE,
        lost="replicas at once have other losses",
    ),
    Clause("padding", "padding has no gradient", meaning.padding, PULLS, lost="padding has a gradient"),
    Clause("classes", "classes may be numbered in any way", meaning.classes, lost="the numbers of the classes matter"),
    Clause(
        "counts",
        "the rarer a class, the larger its losses",
        meaning.counts,
        lost="rare classes do not have the larger losses",
    ),
    Clause("descent", "descent leads to the target", meaning.descent, PULLS),
    Clause("scale", "mean loss and slope before learning", meaning.scale, PULLS),
)


def examine(trial: Trial, clauses: tuple[Clause, ...] = CLAUSES) -> list[Finding]:
    """What each clause says of a loss on one task type."""
    found: dict[str, Finding] = {}
    for clause in clauses:
        hindered = [a for a in clause.after if a in found and found[a].verdict is Verdict.BROKEN]
        if hindered:
            found[clause.name] = Finding(clause, Verdict.NOT_ASKED, f"fix first: {hindered[0]}")
        else:
            found[clause.name] = ask(clause, trial)
    return list(found.values())


def ask(clause: Clause, trial: Trial) -> Finding:
    """What one clause says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Finding(clause, Verdict.KEPT, clause.check(trial))
    except Broken as broken:
        return Finding(clause, Verdict.BROKEN, broken.seen, broken.fix)
    except NotAsked as why:
        return Finding(clause, Verdict.NOT_ASKED, str(why))
    except Exception as error:  # whatever a foreign loss does
        return Finding(clause, Verdict.BROKEN, f"raised {one_line(error)}", "take what the task gives, in every type")
