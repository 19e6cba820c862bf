"""`ui`: MLflow's interface on the store that is configured."""

from __future__ import annotations

from lossbench.cli.options import Parser, recorded
from lossbench.core import ConfigError


def ui(arguments: list[str]) -> None:
    """`ui [RUN|COMPARISON|EXPERIMENT] [tracking.uri=…] [port=5000]`: MLflow's UI on a store, on loopback, at a run."""
    parser = Parser(
        "python -m lossbench ui",
        usage="%(prog)s [RUN|COMPARISON|EXPERIMENT] [tracking.uri=…] [port=5000]",
        description="MLflow's UI on a store, on loopback; it opens at a run, a comparison or an experiment.",
    )
    parser.add_argument("words", nargs="*", metavar="RUN|COMPARISON|EXPERIMENT", help="default: all experiments")
    arguments = parser.parse_args(arguments).words
    from lossbench import tracking

    asked = dict(a.split("=", 1) for a in arguments if "=" in a)
    run_ids = [a for a in arguments if "=" not in a]
    unknown = [a for a in asked if a not in ("tracking.uri", "port")] + run_ids[1:]
    if unknown:
        raise ConfigError(f"ui: {unknown[0]} is not understood; ui [RUN|COMPARISON|EXPERIMENT] [tracking.uri=…]")
    uri = recorded(asked.get("tracking.uri"))
    page = tracking.Store(uri).path(run_ids[0]) if run_ids else "experiments"
    if uri.startswith("http"):
        print(tracking.page(uri, page))
    else:
        tracking.serve(uri, asked.get("port", "5000"), page)
