"""`ui`: MLflow's UI on the configured store."""

from __future__ import annotations

from lossbench.cli.options import Parser
from lossbench.core import ConfigError


def ui(arguments: list[str]) -> None:
    """`ui [RUN|COMPARISON|EXPERIMENT] [tracking.uri=…] [port=5000]`: serve MLflow's UI on loopback."""
    parser = Parser(
        "python -m lossbench ui",
        usage="%(prog)s [RUN|COMPARISON|EXPERIMENT] [tracking.uri=…] [port=5000]",
        description="Serve MLflow's UI for a store on loopback; it opens at a run, a comparison or an experiment.",
    )
    parser.add_argument("words", nargs="*", metavar="RUN|COMPARISON|EXPERIMENT", help="default: all experiments")
    arguments = parser.parse_args(arguments).words
    from lossbench import tracking

    settings = dict(a.split("=", 1) for a in arguments if "=" in a)
    names = [a for a in arguments if "=" not in a]
    unknown = [a for a in settings if a not in ("tracking.uri", "port")] + names[1:]
    if unknown:
        raise ConfigError(f"ui: {unknown[0]}: no such setting; write ui [RUN|COMPARISON|EXPERIMENT] [tracking.uri=…]")
    uri = tracking.existing_store(settings.get("tracking.uri"))
    page = tracking.Store(uri).path(names[0]) if names else "experiments"
    if uri.startswith("http"):
        print(tracking.page(uri, page))
    else:
        tracking.serve(uri, settings.get("port", "5000"), page)
