"""Sequence to sequence: trained by teacher forcing, measured on answers that are written without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lossbench.config.task_type import Shape, TaskType
from lossbench.core import (
    POSITIVE,
    SHARE,
    Card,
    DatasetInfo,
    LossOutput,
    Metric,
    Noise,
    Outputs,
    Pictures,
    Split,
    TrainedModel,
    card_of,
)
from lossbench.datasets.splits import check_labels
from lossbench.metrics import edit_distances, expected_calibration_error, temperature
from lossbench.tasks.calls import ALONE, MULTICLASS, TOKENS, on_each
from lossbench.tasks.lifting import of_one_hot, of_tokens
from lossbench.tasks.samples import CLASSES, COUNTS, Sample, margins, normal

PAD, START, END = 0, 1, 3  # symbols of a target; an answer consists of END and the symbols above it
RENAMED = (0, 2, 1, 4, 3)  # symbols; padding keeps its number


@dataclass(frozen=True)
class Sequence(TaskType):
    """Logits of each symbol given those before it, and the answer that greedy search writes. Exact match is primary.

    Metrics of symbols (accuracy, likelihood, calibration) are measured given the right symbols before; padding does not
    count.
    """

    loss: Callable[[Tensor, Tensor], Tensor | LossOutput]
    info: DatasetInfo

    models = ("seq2seq",)
    layers = ("model.encoder", "model.decoder", "model.head")
    logits = True
    prior = "classes"
    counts = COUNTS
    filler = PAD
    forms = (ALONE, *on_each("token", TOKENS, MULTICLASS))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Exact match is primary."""
        return (
            Metric("exact_match", "share of answers without a fault", True, range=SHARE),
            Metric("edit_distance", "Levenshtein distance to the truth, as a share of the longer", False, range=SHARE),
            Metric("token_accuracy", "share of right symbols behind the right beginning", True, range=SHARE),
            Metric("nll", "negative log-likelihood of a symbol, nats", False, range=POSITIVE),
            Metric("ece", "expected calibration error of symbols, 15 bins", False, range=SHARE),
            Metric("nll_tempered", "the same after temperature", False, range=POSITIVE),
            Metric("ece_tempered", "the same after temperature", False, range=SHARE),
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor | LossOutput]]:
        """The decoder sees the right symbols before each one (teacher forcing)."""
        yield "model", self.loss(nets.model(batch.inputs, shifted(batch.targets)), batch.targets)

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> dict[str, Tensor]:
        """`prediction`, logits behind the right beginning [n, length, classes]; `decoded`, the answer [n, length]."""
        memory = nets.model.encoder(batch.inputs)
        logits = nets.model.head(nets.model.decoder(memory, batch.inputs, shifted(batch.targets)))
        return {"prediction": logits, "decoded": greedy(nets.model, memory, batch.inputs, answered(logits))}

    def measure(self, outputs: Mapping[str, Tensor], targets: Tensor) -> dict[str, float]:
        """Answers are those that greedy search wrote; symbols are measured behind the right beginning."""
        logits, truth = tokens(outputs["prediction"], targets)
        answers, truths = outputs["decoded"].cpu().numpy(), targets.cpu().numpy()
        distances = edit_distances(answers, truths)
        longer = np.maximum((answers != PAD).sum(1), (truths != PAD).sum(1))
        return {
            "exact_match": float(np.mean(distances == 0)),
            "edit_distance": float(np.mean(distances / np.maximum(longer, 1))),
            "token_accuracy": float((answered(logits) == truth).double().mean()),
            "nll": F.cross_entropy(logits, truth).item(),
            "ece": expected_calibration_error(*_confidence(logits, truth)),
        }

    def calibrate(self, outputs: Mapping[str, Tensor], targets: Tensor) -> dict[str, float]:
        """The temperature."""
        logits, truth = tokens(outputs["prediction"], targets)
        return {"temperature": temperature(logits.numpy(), truth.numpy())}

    def report(
        self, outputs: Mapping[str, Tensor], targets: Tensor, calibration: Mapping[str, float]
    ) -> dict[str, float]:
        """Adds the metrics after temperature."""
        logits, truth = tokens(outputs["prediction"], targets)
        tempered = logits / calibration["temperature"]
        return {
            **self.measure(outputs, targets),
            "nll_tempered": F.cross_entropy(tempered, truth).item(),
            "ece_tempered": expected_calibration_error(*_confidence(tempered, truth)),
        }

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import sequence_pictures as pictures
        from lossbench.tasks.pictures import reliability

        test, outputs = seen.splits.test, seen.outputs["test"]
        assert isinstance(outputs, Mapping)
        sources = [self._read(row) for row in test.inputs]
        truths, answers = self._texts(test.targets), self._texts(outputs["decoded"])
        logits, truth = tokens(outputs["prediction"], test.targets)
        figures = {
            "examples": lambda: pictures.examples(sources, truths, answers),
            "reliability": lambda: reliability(
                {
                    "as trained": _confidence(logits, truth),
                    "after temperature": _confidence(logits / seen.calibration["temperature"], truth),
                }
            ),
        }
        if test.metadata:
            right = np.array([a == t for a, t in zip(answers, truths, strict=True)])
            forms = {name: mark.cpu().numpy().astype(bool) for name, mark in test.metadata.items()}
            figures["forms"] = lambda: pictures.forms(right, forms)
        if seen.glimpses:
            first = seen.splits.validation
            guesses = {step: self._texts(_decoded(outputs)) for step, outputs in seen.glimpses.items()}
            count = len(next(iter(guesses.values())))
            figures["training"] = lambda: pictures.training(
                [self._read(row) for row in first.inputs[:count]], self._texts(first.targets[:count]), guesses
            )
        return Pictures(figures)

    @classmethod
    def shapes(
        cls, nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
    ) -> Iterator[tuple[str, Shape, Shape]]:
        """Logits [batch, length, classes], given the source and the answer before each symbol."""
        logits = nets.model(examples.inputs, examples.targets)
        yield "", tuple(logits.shape), (len(examples), *info.targets, cls.outputs(info))

    @staticmethod
    def call(loss: Any) -> Any:
        """A multi-class loss is applied to every token; one of vectors, with one-hot targets."""
        card = card_of(loss)
        if card is not None and "multiclass" in card.task_types:
            return partial(of_tokens, loss)
        if card is not None and "regression" in card.task_types:
            return partial(of_tokens, partial(of_one_hot, loss))
        return loss

    @staticmethod
    def check(info: DatasetInfo, name: str, split: Split) -> None:
        """Every symbol has to be one of the classes, where there are classes."""
        check_labels(info, name, split)

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Targets of different lengths, padded at their end."""
        tokens = torch.randint(1, CLASSES, (size, 4), generator=random)
        real = torch.arange(4) <= torch.arange(size)[:, None] % 4
        return 2 * normal(random, size, 4, CLASSES), tokens * real

    @classmethod
    def made_up(cls, size: int, target: Shape, outputs: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Targets of different lengths, padded at their end."""
        tokens = torch.randint(1, max(2, outputs), (size, *target), generator=random)
        real = torch.arange(target[0]) <= torch.arange(size)[:, None]
        return torch.randn((size, *target, outputs), generator=random), tokens * real

    @classmethod
    def extremes(cls, sample: Sample, far: Tensor, outputs_per_target: int) -> Iterator[Sample]:
        """Two symbols at far logits; the second, or both, may be padding."""
        logits = torch.cartesian_prod(far, far, far)
        for tokens in ((1, 2), (2, PAD), (PAD, PAD)):
            both = torch.stack([logits, logits.flip(0)], 1)
            yield Sample(cls.name, both, torch.tensor(tokens).expand(len(logits), 2), COUNTS[:3])

    @classmethod
    def renumbered(cls, sample: Sample, card: Card | None) -> Sample | str:
        """Symbols under other numbers, except for the padding."""
        return sample.renamed(RENAMED)

    @staticmethod
    def right(prediction: Tensor, target: Tensor) -> Tensor:
        """One-hot vectors."""
        return F.one_hot(target, prediction.shape[-1]).float()

    @classmethod
    def distance(cls, sample: Sample, player: str) -> Tensor:
        """How far the other symbols' mean logit is above the right one's, summed over an example without padding."""
        return (margins(sample.prediction.detach(), sample.target) * (sample.target != PAD)).sum(1)

    @classmethod
    def apart(cls, prediction: Tensor, target: Tensor) -> Tensor:
        return (margins(prediction, target) * (target != PAD)).sum()

    def _texts(self, rows: Tensor) -> list[str]:
        return ["".join(self._symbol(k) for k in row if k != END) for row in written(rows)]

    def _symbol(self, index: int) -> str:
        return self.info.classes[index] if index > END else "\N{REPLACEMENT CHARACTER}"

    def _read(self, row: Tensor) -> str:
        symbols = (self.info.vocabulary[k] for k in row.tolist() if k != PAD)
        return "".join(symbol if len(symbol) == 1 else "\N{REPLACEMENT CHARACTER}" for symbol in symbols)


def _decoded(outputs: Outputs) -> Tensor:
    assert isinstance(outputs, Mapping)
    return outputs["decoded"]


def shifted(targets: Tensor) -> Tensor:
    """What has been written before each symbol: the start, then the targets [..., length] one place later."""
    return F.pad(targets, (1, -1), value=START)


def answered(logits: Tensor) -> Tensor:
    """The likeliest symbol among those of an answer."""
    return logits[..., END:].argmax(-1) + END


def greedy(model: Any, memory: Tensor, source: Tensor, guess: Tensor) -> Tensor:
    """The answer of greedy search, [n, length]: each symbol the likeliest given those before it; 0 after the end.

    All symbols are predicted at once from a guess, then from the result, until nothing changes. Each round makes at
    least one more symbol final, so the guess saves rounds and does not change the answer: an answer that predicts
    itself is the one that greedy search finds symbol by symbol.
    """
    answer, changing = guess.clone(), torch.arange(len(guess), device=guess.device)
    for _ in range(guess.shape[-1]):
        before = answer[changing]
        logits = model.head(model.decoder(memory[changing], source[changing], shifted(before)))
        answer[changing] = after = _ended(answered(logits))
        changing = changing[(after != before).any(-1)]
        if not len(changing):
            break
    return answer


def _ended(answers: Tensor) -> Tensor:
    """Answers with padding after their first end."""
    over = (answers == END).cumsum(-1) - (answers == END).long()
    return answers.masked_fill(over > 0, PAD)


def written(rows: Tensor) -> list[list[int]]:
    """The symbols of each row, up to and with its end."""
    return [[k for k in row if k != PAD] for row in rows.tolist()]


def tokens(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] in double precision and targets [n] of all symbols except padding."""
    real = targets != PAD
    return logits[real].double().cpu(), targets[real].cpu()


def _confidence(logits: Tensor, truth: Tensor) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The probability of each likeliest symbol, and whether it is right."""
    answer = answered(logits)
    p = logits.softmax(-1).gather(-1, answer.unsqueeze(-1)).squeeze(-1)
    return p.numpy(), (answer == truth).numpy()
