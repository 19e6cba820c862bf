"""What is lost when things go wrong: `python scripts/faults.py [--trials 400] [--only KIND [--trial K]] [--seed 0]`.

Commands are disturbed at random moments (signals, outages, full disks) and repeated until they succeed; then their
stores are compared with those of undisturbed commands. Prints a row for each kind of fault and every trial that failed,
whose folder stays; exits with 1 if any did. The kinds and the commands they disturb are in tests/faults/kinds.py.
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
    """Run the trials that the command line asks for, and print what they lost."""
    sys.path[0] = str(TESTS)  # instead of this folder, where `faults` is this file
    import interrupts
    from faults.kinds import KINDS, VERDICTS, Campaign, rows, spread

    interrupts.heed()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--only", metavar="KIND", choices=KINDS, help=f"one of {', '.join(KINDS)}")
    parser.add_argument("--trial", type=int, metavar="K", help="the K-th trial of that kind alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at once; default: one a core")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    args = parser.parse_args()
    if args.trial is not None and not args.only:
        parser.error("--trial: needs --only KIND")
    wanted = spread(args.trials, args.only) if args.trial is None else [(args.only, args.trial)]
    base, console, since = Path(tempfile.mkdtemp(prefix="lossbench-faults-")), Console(), time.monotonic()
    campaign, outcomes = Campaign(base, args.seed), []
    try:
        with ThreadPoolExecutor(args.jobs) as pool, Progress(console=console) as progress:
            bar = progress.add_task("trials", total=len(wanted))
            for future in as_completed([pool.submit(campaign.trial, *one) for one in wanted]):
                outcomes.append(outcome := future.result())
                if outcome.verdict != "held":
                    console.print(f"{outcome} {outcome.folder or ''}", markup=False, highlight=False, soft_wrap=True)
                progress.advance(bar)
    finally:
        campaign.close()
    found = rows(outcomes)
    if args.markdown:
        lines = [["", "trials", *VERDICTS], ["---"] + ["--:"] * 5, *found]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        table = Table("", "trials", *VERDICTS)
        for row in found:
            table.add_row(*row)
        console.print(table)
    console.print(f"seed {args.seed}, {time.monotonic() - since:.0f} s; failed trials are in {base}", soft_wrap=True)
    if any(outcome.verdict in ("lost", "silent") for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
