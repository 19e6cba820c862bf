"""`submit`, `status` and `cancel`: comparisons that go on without the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbench.cli.compare import stray_word
from lossbench.cli.options import Parser
from lossbench.config.arguments import JOIN
from lossbench.config.redaction import redacted
from lossbench.core import ConfigError

if TYPE_CHECKING:
    from lossbench.tracking import Store

SUBMIT = """usage: python -m lossbench submit dataset=DATASET [losses=a,b] [hydra/launcher=slurm] [key=value …]

Begin a comparison, as compare does, and return at once with its name: it goes on in a process of its own on this
machine, or with hydra/launcher=slurm or ray in jobs of a cluster. status NAME says how far it is, report NAME reports
on what is there, cancel NAME ends it. Settings and options are those of compare."""


def submit(arguments: list[str]) -> None:
    """`submit …`: begin a comparison without waiting for it."""
    from hydra.core.hydra_config import HydraConfig

    from lossbench.config import checks, choices, comparing

    parsed = choices.read(arguments)
    if ("--help", "") in parsed.options:
        print(SUBMIT)
        return
    if parsed.bare:
        raise ConfigError(stray_word(parsed, "submit"))
    if name := dict(parsed.options).get(JOIN):
        raise ConfigError(f"submit {JOIN} {name}: submit begins a comparison; compare {JOIN} joins one")
    words = comparing.words(parsed)
    samples = comparing.samples(choices.read(words[1:]))
    chosen = parsed.value("losses") or parsed.value("loss")  # else from the catalogue, where all are sound
    for sample in reversed(samples if chosen else samples[:1]):
        cfg = choices.composed(sample, choices.folders(parsed))
        HydraConfig.instance().set_config(cfg)
        checks.check_job(cfg, cfg.hydra)
    from lossbench import tracking
    from lossbench.sweeps import detached

    name = detached.submit(words, cfg)
    uri = f" tracking.uri={redacted(tracking.resolve(cfg.tracking.uri))}" if parsed.value("tracking.uri") else ""
    print(f"submitted {name}")
    for verb, what in (("status", "how far it is"), ("report", "what is there"), ("cancel", "end it")):
        print(f"python -m lossbench {verb} {name}{uri}   {what}")


def status(arguments: list[str]) -> None:
    """`status [COMPARISON] [tracking.uri=…]`: how far comparisons are, by default all that are not finished."""
    name, store = _named("status", "How far a comparison is.", arguments, required=False)
    from lossbench.sweeps import detached

    unfinished = [name] if name else detached.names(store)
    if not unfinished:
        print("every comparison is finished")
    for one in unfinished:
        found = detached.status(store, one)
        ended = sum(count for state, count in found.counts.items() if state != "training")
        of = f" of {found.planned}" if found.planned else ""
        states = ", ".join(f"{count} {state}" for state, count in sorted(found.counts.items()))
        print(f"{one}: {found.state}{f', led by {found.leader}' if found.leader else ''}")
        print(f"  {ended}{of} runs have ended{f': {states}' if states else ''}")
        if found.log:
            print("".join(f"  | {line}\n" for line in found.log.splitlines()), end="")


def cancel(arguments: list[str]) -> None:
    """`cancel COMPARISON [tracking.uri=…]`: end a comparison; what was recorded stays."""
    name, store = _named("cancel", "End a comparison; what was recorded stays.", arguments, required=True)
    from lossbench.sweeps import detached

    detached.cancel(store, name)
    print(f"cancelled {name}; what was recorded is kept")


def _named(verb: str, description: str, arguments: list[str], *, required: bool) -> tuple[str, Store]:
    settings = [a for a in arguments if a.startswith("tracking.uri=")]
    parser = Parser(
        f"python -m lossbench {verb}",
        usage=f"%(prog)s {'COMPARISON' if required else '[COMPARISON]'} [tracking.uri=…]",
        description=description,
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs=None if required else "?", metavar="COMPARISON", help="the name of a comparison")
    options = parser.parse_args([a for a in arguments if a not in settings])
    from lossbench import tracking

    return options.name, tracking.Store(tracking.existing_store(settings[-1].partition("=")[2] if settings else None))
