"""What cannot work is refused by name, in a line, before anything trains."""

import pytest

import lossbench as door
from lossbench.api import contenders, sources


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, r"^there are no data: compare\("),
        ({"dataset": "regresion"}, r"dataset=regresion: no such dataset\nnearest: regression"),
        ({"settings": {"train.step": 3}}, r"train.step=3: no such setting\nnearest: train.steps"),
        ({"settings": {"train.steps": "many"}}, "train.steps=many: wants a whole number"),
        ({"settings": {"train.steps": object()}}, "train.steps: a object: no setting"),
        ({"trian": 60}, r"dataset.trian=60: no such setting\nnearest: dataset.train"),
        ({"seed": 3}, r"seed=3: no setting of data; compare takes seeds=\[3\]"),
        ({"loss": "mse"}, "loss='mse': no setting of data; compare takes losses="),
        ({"losses": ["msee"]}, "loss=msee: no such loss\nnearest: mse"),
        ({"losses": ["bce"]}, "loss=bce: fits binary"),
        ({"losses": []}, r"losses=\[\]: name at least one"),
        ({"losses": [3]}, "loss=3: a int; losses are names"),
        ({"losses": "mse,mae"}, "loss=mse,mae: no name of a loss"),
        ({"losses": {"gamma": 3}}, 'has no "_target_"'),
        ({"losses": [("mse", {"k": 3})]}, "loss.k: unknown; mse takes no settings"),
        ({"losses": [lambda prediction: prediction]}, "failed on the first batch"),
        ({"losses": "no.such.loss"}, "no such module"),
        ({"seeds": 0}, "seeds=0: has to be a number of seeds"),
        ({"seeds": [1, -1]}, r"seeds=\[1, -1\]: different whole numbers"),
        ({"seeds": []}, r"seeds=\[\]: different whole numbers"),
    ],
)
def test_a_comparison(asked, said, tiny, here, store):
    asked = asked and {"dataset": "regression", "losses": "mse", "seeds": 1, **asked}
    with pytest.raises(door.ConfigError, match=said):
        door.compare(quiet=True, **{**asked, "settings": {**tiny, **asked.get("settings", {})}})
    assert not store.find({"lossbench.kind": "run"})


def test_records_that_are_not_there(found):
    with pytest.raises(door.ConfigError, match="the newest comparisons are"):
        door.report("nope", uri=found.uri)
    with pytest.raises(door.ConfigError, match="run nope: not in sqlite"):
        door.load("nope", uri=found.uri)
    comparison = found.runs["comparison"].iloc[0]
    (record,) = door.report(uri=found.uri).runs["comparison"].unique()
    assert record == comparison == found.name


def test_a_store_without_records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for ask in (door.report, lambda: door.load("abc")):
        with pytest.raises(door.ConfigError, match="nothing is recorded there yet"):
            ask()


def test_a_module_whose_file_changed_after_its_import_is_refused(tmp_path, monkeypatch):
    import importlib

    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "edited_losses.py"
    path.write_text("def own(prediction, target):\n    return (prediction - target).abs().mean(-1)\n", encoding="utf-8")
    module = importlib.import_module("edited_losses")
    assert contenders.contender(module.own) == "{_target_:edited_losses.own}"
    path.write_text(path.read_text(encoding="utf-8").replace("abs", "square") + "\n", encoding="utf-8")
    for loss in (module.own, "edited_losses.own"):
        with pytest.raises(door.ConfigError, match=r"changed after it was imported; importlib.reload\(edited_losses\)"):
            contenders.contender(loss)
    importlib.reload(module)
    assert contenders.contender(module.own) == "{_target_:edited_losses.own}"
    sources.check("edited_losses.own")


def test_losses_of_the_catalogue_have_its_names():
    from lossbench.losses import focal

    assert contenders.words([focal, "bce", ("focal", {"gamma": 1})]) == "choice(focal,bce,{focal:{gamma:1}})"
    assert contenders.words("mse") == "choice(mse)"
    assert contenders.alone(("focal", {"gamma": 1})) == ["loss=focal", "++loss.gamma=1"]
