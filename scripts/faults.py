"""What is lost when things go wrong: `python scripts/faults.py [--trials 400] [--only KIND [--trial K]] [--seed 0]`.

Commands are disturbed at random moments (signals, outages, full disks), given again until they end well, and their
stores compared with those of commands that nobody disturbed. Prints a row for each kind and whatever does not hold,
whose folders stay; exits with 1 if anything does not. Kinds, and what is done to which command: tests/faults/kinds.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

TESTS = Path(__file__).resolve().parent.parent / "tests"


def main() -> None:
    sys.path[0] = str(TESTS)  # in place of this folder, where `faults` is this file
    import interrupts
    from faults.kinds import TASK_TYPES, VERDICTS, Campaign, rows, spread

    interrupts.heed()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--only", metavar="KIND", choices=TASK_TYPES, help=f"one of {', '.join(TASK_TYPES)}")
    parser.add_argument("--trial", type=int, metavar="K", help="the K-th trial of that kind alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at once; default: one a core")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    asked = parser.parse_args()
    if asked.trial is not None and not asked.only:
        parser.error("--trial: needs --only KIND")
    wanted = spread(asked.trials, asked.only) if asked.trial is None else [(asked.only, asked.trial)]
    base, console, since = Path(tempfile.mkdtemp(prefix="lossbench-faults-")), Console(), time.monotonic()
    campaign, outcomes = Campaign(base, asked.seed), []
    try:
        with ThreadPoolExecutor(asked.jobs) as pool, Progress(console=console) as progress:
            bar = progress.add_task("trials", total=len(wanted))
            for future in as_completed([pool.submit(campaign.trial, *one) for one in wanted]):
                outcomes.append(outcome := future.result())
                if outcome.verdict != "held":
                    console.print(f"{outcome} {outcome.folder or ''}", markup=False, highlight=False, soft_wrap=True)
                progress.advance(bar)
    finally:
        campaign.close()
    found = rows(outcomes)
    if asked.markdown:
        lines = [["", "trials", *VERDICTS], ["---"] + ["--:"] * 5, *found]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        table = Table("", "trials", *VERDICTS)
        for row in found:
            table.add_row(*row)
        console.print(table)
    console.print(
        f"seed {asked.seed}, {time.monotonic() - since:.0f} s; what does not hold lies in {base}", soft_wrap=True
    )
    if any(outcome.verdict in ("lost", "silent") for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
