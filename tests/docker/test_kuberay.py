"""The manifest for KubeRay, as far as can be told without Kubernetes: KubeRay's own schema, and what it names."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
MANIFEST = yaml.safe_load((ROOT / "docker" / "kuberay.yaml").read_text(encoding="utf-8"))
CLUSTER = MANIFEST["spec"]["rayClusterSpec"]
CONTAINERS = [
    group["template"]["spec"]["containers"][0] for group in (CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"])
]


def closed(schema):
    """The schema, with every name refused that it does not list, as `kubectl apply` does."""
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        made["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made = {key: value for key, value in made.items() if key != "type"}
    return made


@pytest.fixture(scope="module")
def valid():
    schema = closed(yaml.safe_load(Path(__file__).with_name("rayjob.schema.yaml").read_text(encoding="utf-8")))
    return jsonschema.Draft202012Validator(schema)


def test_kuberay_takes_the_manifest(valid):
    assert [error.message for error in valid.iter_errors(MANIFEST)] == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("spec", "entrypont"), "lossbench", "'entrypont' was unexpected"),
        (("spec", "backoffLimit"), "two", "'two' is not of type 'integer'"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "password", "'password' is not one of"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "enw"), [], "'enw' was"),
    ],
)
def test_kuberay_refuses_what_it_does_not_know(valid, path, value, message):
    manifest = copy.deepcopy(MANIFEST)
    place = manifest
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert message in " ".join(error.message for error in valid.iter_errors(manifest))


def test_the_cluster_runs_the_ray_that_is_pinned():
    assert f"\nray=={CLUSTER['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize("group", [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]])
def test_ray_knows_its_options(group):
    start = pytest.importorskip("ray.scripts.scripts").start
    words = [f"--{name}={value}" for name, value in group["rayStartParams"].items()]
    assert start.make_context("ray start", words).params["num_cpus"] is not None


def test_no_secret_stands_in_the_manifest():
    assert CLUSTER["authOptions"]["mode"] == "token"
    (uri,) = [entry for entry in CONTAINERS[0]["env"] if entry["name"] == "MLFLOW_TRACKING_URI"]
    secrets = {CLUSTER["authOptions"]["secretName"], uri["valueFrom"]["secretKeyRef"]["name"]}
    comment = (ROOT / "docker" / "kuberay.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"create secret generic (\S+)", comment)) == secrets


def test_head_and_workers_have_one_image_and_one_environment():
    assert len({container["image"] for container in CONTAINERS}) == 1
    assert all(container["env"] == CONTAINERS[0]["env"] for container in CONTAINERS)
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
