"""`verify`: what a correct harness must show."""

from __future__ import annotations

from pathlib import Path

from lossbench.cli.options import Parser, write
from lossbench.core import ConfigError


def verify(arguments: list[str]) -> None:
    """`verify [NAME…] [--html FILE]`: measure the analytical truths; exit 1 where one fails.

    With `--empirical`, train the published studies instead.
    """
    store = [a for a in arguments if a.startswith("tracking.uri=")]
    parser = Parser(
        "python -m lossbench verify",
        usage="%(prog)s [NAME …] [--html FILE] | --empirical [NAME …] [tracking.uri=…]",
        description="What a correct harness must show, measured through its own losses, tasks and engine.",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these truths")
    parser.add_argument("--html", metavar="FILE", help="also write a page that plots what was measured")
    parser.add_argument(
        "--empirical", action="store_true", help="train studies whose results are published, and compare"
    )
    options = parser.parse_args([a for a in arguments if a not in store])
    if options.empirical and options.html:
        raise ConfigError(
            "verify: --html is for the analytical truths; each study of --empirical has its report in MLflow"
        )
    if options.empirical:
        _train_studies(options.names, store[-1].partition("=")[2] if store else None)
        return
    from lossbench import terminal
    from lossbench.verification import verify as truths

    if options.html is not None:
        write(options.html, "", "verify: --html", mode="a")  # fails before the minutes that measuring takes
    outcomes = list(truths.all_of(truths.chosen(options.names)))
    terminal.out().print(truths.table(outcomes))
    if options.html:
        from lossbench.verification.page import page

        write(options.html, page(outcomes), "verify: --html")
        terminal.out().print(f"page: {Path(options.html).absolute()}")
    terminal.out().print(truths.last_line(outcomes))
    if not all(outcome.holds for outcome in outcomes):
        raise SystemExit(1)


def _train_studies(names: list[str], store: str | None) -> None:
    """Train each study, unless this code has recorded it already, and judge it; exit 1 where a gate fails."""
    from lossbench import terminal, tracking
    from lossbench.verification import empirical, studies

    uri = tracking.resolve(tracking.store_uri(store))
    tracking.check_connection(uri)
    console, failed = terminal.out(), False
    for study in empirical.chosen(names):
        judged = studies.judged(study, uri)
        console.print(studies.table(judged))
        failed |= not judged.holds
    if failed:
        raise SystemExit(1)
