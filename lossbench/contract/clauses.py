"""The contract: what any loss has to keep so that it can be compared, clause by clause."""

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
    """`check` says what was seen, and raises Broken or NotAsked. It is asked where those `after` are not broken.

    `lost` is what a loss that breaks it goes without; empty where it cannot train.
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
    mend: str = ""


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
        "one term an example, or one number if its card says batch",
        form.shape,
        lost="no values of single examples, so runs of a stack take turns",
    ),
    Clause("dtype", "terms in the prediction's floating type", form.dtype, lost="not in every floating type"),
    Clause("target", "looks at the target", meaning.target),
    Clause("gradient", "the gradient reaches the prediction", meaning.gradient),
    Clause(
        "generator", "global random generators left alone", form.generator, lost="what it draws is no stream of its own"
    ),
    Clause("inputs", "prediction and target left as they are", form.inputs, lost="it writes to what it is given"),
    Clause("repeat", "two calls give the same", form.repeat, lost="two calls give two values"),
    Clause(
        "finite",
        "finite at extremes, terms and gradient",
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
        "terms go with their examples",
        batches.order,
        ("callable", "shape", "repeat"),
        lost="terms change with the order of the batch",
    ),
    Clause(
        "double",
        "the same in a batch twice as large",
        batches.double,
        ALONE,
        lost="terms change with the size of the batch",
    ),
    Clause(
        "own",
        "a term depends on its own example alone",
        batches.own,
        (*ALONE, "double"),
        lost="terms depend on the rest of the batch",
    ),
    Clause(
        "replica_batched",
        "takes replicas at once, if its card says wide",
        batches.replicas,
        ALONE,
        lost="replicas at once cost something else",
    ),
    Clause(
        "padding", "what fills a sequence up never pulls", meaning.padding, PULLS, lost="what fills a sequence up pulls"
    ),
    Clause("classes", "classes may be numbered in any way", meaning.classes, lost="the numbers of the classes matter"),
    Clause("counts", "the rarer a class, the dearer", meaning.counts, lost="rare classes are not the dearer ones"),
    Clause("descent", "descent leads to the target", meaning.descent, PULLS),
    Clause("scale", "cost and slope in its own scale", meaning.scale, PULLS),
)


def examine(trial: Trial, clauses: tuple[Clause, ...] = CLAUSES) -> list[Finding]:
    """What each clause says of a loss on one task type."""
    found: dict[str, Finding] = {}
    for clause in clauses:
        hindered = [a for a in clause.after if a in found and found[a].verdict is Verdict.BROKEN]
        if hindered:
            found[clause.name] = Finding(clause, Verdict.NOT_ASKED, f"first mend: {hindered[0]}")
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
        return Finding(clause, Verdict.BROKEN, broken.seen, broken.mend)
    except NotAsked as why:
        return Finding(clause, Verdict.NOT_ASKED, str(why))
    except Exception as error:  # whatever a foreign loss does
        return Finding(clause, Verdict.BROKEN, f"raised {one_line(error)}", "take what the task gives, in every type")
