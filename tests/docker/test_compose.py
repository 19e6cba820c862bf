"""The image and the services, as far as can be told without an engine: docker's own reading of them, and pins."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "docker"
SERVICES = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
RAY = ("ray-head", "ray-worker")
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def compose():
    """`docker compose config` under an environment and no .env: docker's plugin, or the same program on its own."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for words in (["docker", "compose"], ["docker-compose"]):
        program = shutil.which(words[0], path=path)
        asked = [program, *words[1:], "version", "--short"] if program else ["false"]
        said = subprocess.run(asked, capture_output=True, text=True)
        if program and said.returncode == 0 and not said.stdout.startswith("1."):
            break
    else:
        pytest.skip("neither `docker compose` nor `docker-compose`, version 2 or later, is installed")

    def call(*files: str, **environment: str) -> subprocess.CompletedProcess[str]:
        named = [word for file in ("compose.yaml", *files) for word in ("-f", str(FOLDER / file))]
        command = [program, *words[1:], "--env-file", os.devnull, *named, "--profile", "*", "config", "--format=json"]
        given = {"HOME": str(Path.home()), "PATH": path} | environment  # docker looks for plugins at home, too
        return subprocess.run(command, env=given, capture_output=True, text=True)

    return call


def configured(compose, *files, **environment):
    said = compose(*files, **environment)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)["services"]


def test_docker_reads_the_services(compose):
    services = configured(compose, POSTGRES_PASSWORD="p@ss:w/o%d")
    assert set(services) == {"database", "mlflow", "ray-head", "ray-worker", "trainer"}
    assert services["database"]["environment"]["POSTGRES_PASSWORD"] == "p@ss:w/o%d"
    assert services["mlflow"]["environment"]["PGPASSWORD"] == "p@ss:w/o%d"
    assert {services[name]["image"] for name in set(services) - {"database"}} == {"lossbench:cpu"}
    assert Path(services["trainer"]["build"]["context"]) == ROOT


@pytest.mark.parametrize("given", [{}, {"POSTGRES_PASSWORD": ""}])
def test_no_password_is_no_start(compose, given):
    said = compose(**given)
    assert said.returncode != 0
    assert "set POSTGRES_PASSWORD, in the environment or in docker/.env" in said.stderr


@pytest.mark.parametrize(
    ("given", "published"),
    [
        ({}, {("127.0.0.1", "5000"), ("127.0.0.1", "8265")}),
        ({"LISTEN": "0.0.0.0", "MLFLOW_PORT": "80", "RAY_PORT": "81"}, {("0.0.0.0", "80"), ("0.0.0.0", "81")}),
    ],
)
def test_only_mlflow_and_rays_dashboard_are_published_and_on_loopback_unless_told_otherwise(compose, given, published):
    services = configured(compose, POSTGRES_PASSWORD="x", **given)
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {(port.get("host_ip"), port["published"]) for port in ports} == published


def test_the_machine_gives_ray_its_token_and_its_size(compose):
    services = configured(compose, POSTGRES_PASSWORD="x", RAY_AUTH_TOKEN="secret", RAY_WORKERS="3", RAY_CPUS="4")
    assert {services[name]["environment"]["RAY_AUTH_TOKEN"] for name in RAY} == {"secret"}
    assert services["ray-worker"]["deploy"]["replicas"] == 3
    assert "--num-cpus=4" in services["ray-worker"]["command"]


def test_a_gpu_is_the_trainers(compose):
    services = configured(compose, "compose.gpu.yaml", POSTGRES_PASSWORD="x", TORCH="cu130")
    (device,) = services["trainer"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert services["trainer"]["build"]["args"] == {"TORCH": "cu130"}
    assert "deploy" not in services["mlflow"]


def test_ports_are_written_with_a_loopback_address():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", port) for port in ports] == [
        "127.0.0.1:5000:5000",
        "127.0.0.1:8265:8265",
    ]


@pytest.mark.parametrize("name", RAY)
def test_ray_is_a_profile_of_its_own_and_asks_for_a_token(name):
    service = SERVICES[name]
    assert service["profiles"] == ["ray"]
    assert service["environment"]["RAY_AUTH_MODE"] == "token"
    assert service["environment"]["MLFLOW_TRACKING_URI"] == SERVICES["trainer"]["environment"]["MLFLOW_TRACKING_URI"]


@pytest.mark.parametrize("name", RAY)
def test_ray_knows_its_options(name):
    start = pytest.importorskip("ray.scripts.scripts").start
    words = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in SERVICES[name]["command"]]
    given = start.make_context("ray start", words).params
    assert given["head"] == (name == "ray-head")
    assert given["block"]


def test_images_are_pinned_to_a_full_version():
    pulled = [service["image"] for service in SERVICES.values() if "build" not in service]
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(pulled) == 1
    assert len(stages) == 2
    for image in [*pulled, *stages]:
        assert re.fullmatch(r"(postgres:\d+\.\d+|python:3\.11\.\d+-slim)-bookworm", image), image


def test_the_image_installs_what_is_pinned():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    installed = re.findall(r"pip install -c constraints\.txt (.+)$", DOCKERFILE, re.MULTILINE)
    assert len(installed) == DOCKERFILE.count("pip install")
    assert {name for line in installed for name in line.split()} <= {'".[faces,ray,translation]"', *pinned}
    comment = re.search(r"which wheels of torch ([\d.]+):", DOCKERFILE)
    assert comment is not None
    assert pinned["torch"].startswith(comment[1])


@pytest.mark.slow
def test_what_docker_is_given_suffices_for_the_package(tmp_path):
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    given = [ROOT / rule[1:] for rule in rules if rule.startswith("!")]
    assert "*" in rules
    for path in given:
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, tmp_path / path.name)
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "out"), str(tmp_path)]
    subprocess.run(words, check=True, capture_output=True)
    assert len(list((tmp_path / "out").glob("lossbench-*.whl"))) == 1
