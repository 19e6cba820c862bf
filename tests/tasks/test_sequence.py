"""The sequence task: metrics against brute force, greedy search symbol by symbol, padding that never counts."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from lossbench.core import DatasetInfo, Split, Splits, TrainedModel, stream
from lossbench.engine import Nets, Noise
from lossbench.losses import cross_entropy, focal, label_smoothing, mse
from lossbench.models.seq2seq import Seq2Seq
from lossbench.tasks.lifting import lifted
from lossbench.tasks.sequence import END, PAD, START, Sequence, answered, greedy, shifted

READ = ("<pad>", "<unk>", *"abcdef")
WRITTEN = ("<pad>", "<start>", "<unk>", "<end>", *"0123456")
LENGTH = 7
FACTS = DatasetInfo("toy", "sequence", (9,), (LENGTH,), "", "", "", classes=WRITTEN, vocabulary=READ)
TASK = Sequence(cross_entropy, FACTS)


def model(seed=0):
    net = Seq2Seq((9,), len(WRITTEN), stream(seed, "init"), vocabulary=len(READ), length=LENGTH, width=16, heads=2)
    with torch.no_grad():  # so that answers differ from each other
        net.head.weight.mul_(4)
        for layer in net.decoder.layers:
            layer.other.query.weight.mul_(8)
            layer.other.out.weight.mul_(8)
    return net.double()


def example(n=60, seed=0):
    """Sources, and targets that end somewhere."""
    random = np.random.default_rng(seed)
    source, targets = random.integers(1, len(READ), (n, 9)), random.integers(END + 1, len(WRITTEN), (n, LENGTH))
    for row, length in zip(source, random.integers(1, 10, n), strict=True):
        row[length:] = PAD
    for row, length in zip(targets, random.integers(0, LENGTH, n), strict=True):
        row[length], row[length + 1 :] = END, PAD
    return Split(torch.tensor(source), torch.tensor(targets))


def outputs(split, seed=0):
    """Logits that are often right, and answers that are sometimes."""
    random = np.random.default_rng(seed)
    noise = 1.5 * random.standard_normal((*split.targets.shape, len(WRITTEN)))
    logits = torch.tensor(noise + 3 * np.eye(len(WRITTEN))[split.targets])
    decoded = split.targets.clone()
    decoded[::3] = example(len(split), seed + 1).targets[::3]
    return {"prediction": logits, "decoded": decoded}


def test_what_is_seen_is_one_place_late():
    targets = torch.tensor([[[7, 5, END, PAD]], [[4, END, PAD, PAD]]])
    assert shifted(targets).tolist() == [[[START, 7, 5, END]], [[START, 4, END, PAD]]]


def test_the_step_asks_for_the_next_symbol():
    seen = {}

    class Player:
        def model(self, source, before):
            seen.update(source=source, before=before)
            return "logits"

    def loss(prediction, target):
        seen.update(prediction=prediction, target=target)
        return "terms"

    batch = example()
    assert list(Sequence(loss, FACTS).step(Player(), batch, None)) == [("model", "terms")]
    assert seen["source"] is batch.inputs
    assert seen["target"] is batch.targets
    assert seen["prediction"] == "logits"
    assert torch.equal(seen["before"], shifted(batch.targets))


def symbol_by_symbol(net, source):
    """The greedy answer to one source: a symbol at a time, until the end."""
    answer = []
    while len(answer) < LENGTH and END not in answer:
        before = torch.tensor([[START, *answer]])
        logits = net(source[None], before)[0, -1].tolist()
        answer.append(max(range(END, len(WRITTEN)), key=logits.__getitem__))
    return answer + [PAD] * (LENGTH - len(answer))


@pytest.mark.parametrize("seed", range(3))
def test_greedy_search_is_the_likeliest_symbol_again_and_again(seed):
    net, split = model(seed), example()
    with torch.inference_mode():
        found = TASK.predict(Nets(model=net), split, Noise([0], torch.device("cpu")))
        expected = [symbol_by_symbol(net, source) for source in split.inputs]
    assert found["decoded"].tolist() == expected
    assert len({tuple(row) for row in expected}) > 10
    assert any(END in row for row in expected)
    torch.testing.assert_close(found["prediction"], net(split.inputs, shifted(split.targets)))


@pytest.mark.parametrize("guess", [END, 5, 10], ids=["ends", "fives", "sixes"])
def test_the_answer_does_not_depend_on_the_guess(guess):
    net, split = model(), example()
    memory = net.encoder(split.inputs)
    given = torch.full_like(split.targets, guess)
    found = greedy(net, memory, split.inputs, given)
    assert torch.equal(found, greedy(net, memory, split.inputs, split.targets))
    assert (given == guess).all()


def test_answers_are_made_of_what_can_be_written():
    logits = torch.zeros(len(WRITTEN), len(WRITTEN)) + 9 * torch.eye(len(WRITTEN))
    assert answered(logits).tolist() == [END] * END + list(range(END, len(WRITTEN)))


def levenshtein(a, b):
    """By the recurrence, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def text(row):
    return [k for k in row.tolist() if k != PAD]


def test_metrics_are_those_of_a_loop():
    split = example()
    found = outputs(split)
    calibration = TASK.calibrate(found, split.targets)
    t = calibration["temperature"]
    right, nll, tempered, confidence, distance = [], [], [], [], []
    for logits, target, decoded in zip(found["prediction"].numpy(), split.targets, found["decoded"], strict=True):
        a, b = text(decoded), text(target)
        distance.append(levenshtein(a, b) / max(len(a), len(b)))
        for z, y in zip(logits, b, strict=False):
            guess = END + z[END:].argmax()
            right.append(guess == y)
            confidence.append(np.exp(log_softmax(z)[guess]))
            nll.append(-log_softmax(z)[y])
            tempered.append(-log_softmax(z / t)[y])
    report = TASK.report(found, split.targets, calibration)
    bins = np.ceil(np.array(confidence) * 15)
    gaps = [abs((np.array(right) * 1.0 - confidence)[bins == k].sum()) for k in range(1, 16)]
    assert report == pytest.approx(
        {
            "exact_match": np.mean([text(a) == text(b) for a, b in zip(found["decoded"], split.targets, strict=True)]),
            "edit_distance": np.mean(distance),
            "token_accuracy": np.mean(right),
            "nll": np.mean(nll),
            "nll_tempered": np.mean(tempered),
            "ece": sum(gaps) / len(right),
            "ece_tempered": report["ece_tempered"],
        },
        rel=1e-9,
    )
    assert 0 < report["edit_distance"] < 1 - report["exact_match"]
    assert report["nll_tempered"] < report["nll"]


def test_padding_never_counts():
    split = example()
    found = outputs(split)
    padding = split.targets == PAD
    changed = {**found, "prediction": found["prediction"].clone()}
    changed["prediction"][padding] = (
        100 * torch.randn(int(padding.sum()), len(WRITTEN), generator=stream(0, "x")).double()
    )
    calibration = TASK.calibrate(found, split.targets)
    assert calibration == TASK.calibrate(changed, split.targets)
    assert TASK.report(found, split.targets, calibration) == TASK.report(changed, split.targets, calibration)


def test_longer_padding_changes_nothing():
    split = example()
    found = outputs(split)
    more = {
        "prediction": torch.cat([found["prediction"], torch.ones(len(split), 3, len(WRITTEN))], 1),
        "decoded": torch.nn.functional.pad(found["decoded"], (0, 3)),
    }
    assert TASK.measure(more, torch.nn.functional.pad(split.targets, (0, 3))) == TASK.measure(found, split.targets)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("answer", [PAD, END, 5])
def test_reports_are_complete_and_finite(scale, answer):
    split = example()
    targets = split.targets if answer else torch.full_like(split.targets, PAD).index_fill(1, torch.tensor([0]), END)
    found = {
        "prediction": scale * outputs(split)["prediction"].float(),
        "decoded": torch.full_like(targets, answer),
    }
    calibration = TASK.calibrate(found, targets)
    report = TASK.report(found, targets, calibration)
    assert sorted(report) == sorted(metric.name for metric in TASK.metrics)
    assert all(map(math.isfinite, (*report.values(), *calibration.values())))
    watched = TASK.measure(found, targets)
    assert watched == {name: report[name] for name in watched}
    assert TASK.metrics[0].name in watched


def test_perfect_answers_have_perfect_metrics():
    split = example()
    logits = 100 * torch.nn.functional.one_hot(split.targets, len(WRITTEN)).double()
    report = TASK.measure({"prediction": logits, "decoded": split.targets}, split.targets)
    assert report["exact_match"] == report["token_accuracy"] == 1
    assert report["edit_distance"] == 0
    assert report["nll"] < 1e-6


def copied(n, seed):
    """Each letter as the figure of its place in the alphabet."""
    source = example(n, seed).inputs[:, : LENGTH - 1]
    targets = torch.nn.functional.pad(torch.where(source > PAD, (source + 2).clamp(min=END + 1), PAD), (0, 1))
    return Split(source, targets.scatter(1, (source > PAD).sum(1, keepdim=True), END))


@pytest.mark.parametrize("loss", [cross_entropy, label_smoothing, focal, mse])
def test_it_learns(loss):
    task = Sequence(lifted(loss, "sequence"), FACTS)
    net = Seq2Seq((9,), len(WRITTEN), stream(0, "init"), vocabulary=len(READ), length=LENGTH, width=32, layers=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    train, test = copied(640, 0), copied(100, 1)
    matches = []
    for step in range(161):
        if step % 160 == 0:
            with torch.inference_mode():
                matches.append(task.measure(task.predict(Nets(model=net), test, None), test.targets)["exact_match"])
        batch = train[torch.arange(32) + 32 * (step % 20)]
        for _, per_example in task.step(Nets(model=net), batch, None):
            assert per_example.shape == (32,)
            optimizer.zero_grad()
            per_example.mean().backward()
            optimizer.step()
    assert matches[0] < 0.05
    assert matches[-1] > 0.5


def drawn(metadata, glimpses):
    split = example()
    test = Split(split.inputs, split.targets, metadata)
    seen = TrainedModel(
        None, {"test": outputs(split)}, Splits(FACTS, split, split, test), {"temperature": 1.3}, glimpses
    )
    return TASK.pictures(seen)


def test_pictures_show_right_and_wrong_answers(tmp_path):
    glimpses = {step: {"decoded": example(seed=step).targets[:32]} for step in (10, 20)}
    figures = drawn({"short": torch.arange(60) < 20, "none": torch.zeros(60, dtype=torch.bool)}, glimpses)
    assert sorted(figures) == ["examples", "forms", "reliability", "training"]
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    labels = [text.get_text() for text in figures["forms"].axes[0].get_yticklabels()]
    assert labels == ["short"]  # a form that does not occur has no bar
    heads = [text.get_text() for text in figures["training"].texts]
    assert [head for head in heads if head.startswith("step")] == ["step 10", "step 20"]


def test_pictures_without_forms_or_glimpses():
    assert sorted(drawn({}, {})) == ["examples", "reliability"]


def test_faults_are_marked_and_nothing_else():
    from lossbench.tasks.pictures import INK, WARN
    from lossbench.tasks.sequence_pictures import examples

    figure = examples(["x", "y", "z"], ["1998", "2024", "77"], ["1998", "2124", "7"])
    pieces = [(text.get_text(), text.get_color()) for text in figure.texts]
    assert [text for text, colour in pieces if colour == WARN] == ["1", "_"]
    assert [text for text, colour in pieces if colour == INK] == [
        *("y", "2024", "2", "24"),
        *("z", "77", "7"),
        *("x", "1998", "1998"),
    ]


def test_letters_that_no_font_has_are_drawn_as_a_box(tmp_path):
    from lossbench.tasks.sequence_pictures import examples

    figure = examples(["日本$x$", "a\u2028"], ["1", "2"], ["1", "$3"])
    figure.savefig(tmp_path / "table.png")
    assert 2 * "\N{WHITE RECTANGLE}" + "$x$" in [text.get_text() for text in figure.texts]
