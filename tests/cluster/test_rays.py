"""The Ray that other tests use is one, and is gone when they are done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from cluster import rays as _rays

DRIVER = """
import sys, time
import ray
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)

@ray.remote(num_cpus=1, max_retries=0)
def task(path):
    open(path, "w").write(ray.get_runtime_context().get_node_id())
    time.sleep(600 if path.endswith("long") else 0)
    return ray.get_runtime_context().get_node_id()

"""


def _driver(rays, text: str, *words: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER + text, rays.address, *words]
    around = os.environ | rays.environment | environment
    return subprocess.Popen(command, env=around, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _said(driver: subprocess.Popen[str]) -> str:
    out, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, out
    return out


def test_a_driver_reaches_both_workers(rays):
    text = "print(sorted((n['Alive'], n['Resources'].get('CPU', 0)) for n in ray.nodes()))"
    assert "[(True, 0), (True, 1.0), (True, 1.0)]" in _said(_driver(rays, text))


@pytest.mark.slow  # Ray tries for twenty seconds
def test_without_the_token_there_is_no_connection(rays):
    driver = _driver(rays, "", RAY_AUTH_TOKEN="0" * 64)
    out, _ = driver.communicate(timeout=120)
    assert driver.returncode != 0
    assert "AuthenticationError" in out


def test_everything_listens_on_loopback_only(rays):
    listening = {
        connection.laddr.ip
        for process in _of(rays)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_task_on_a_killed_node_fails_and_the_next_one_runs_elsewhere(rays, tmp_path):
    text = """
first = task.remote(sys.argv[2])
second = task.remote(sys.argv[3])
for reference in (first, second):
    try:
        print(ray.get(reference))
    except ray.exceptions.RayError as error:
        print(type(error).__name__)
ray.get(task.remote(sys.argv[4]))
print("done")
"""
    paths = [str(tmp_path / name) for name in ("first-long", "second-long", "third")]
    driver = _driver(rays, text, *paths)
    _until(lambda: all(Path(path).exists() for path in paths[:2]))
    rays.kill(0)
    rays.kill(1)
    rays.add()
    said = _said(driver).splitlines()
    assert [said.count(line) for line in ("NodeDiedError", "done")] == [2, 1]


def test_ray_jobs_are_taken_and_stopped(ray_jobs):
    text = """
from ray.job_submission import JobSubmissionClient
client = JobSubmissionClient(sys.argv[2])
job = client.submit_job(entrypoint=f"{sys.executable} -u -c 'import time; print(42); time.sleep(600)'")
while "42" not in client.get_job_logs(job):
    time.sleep(0.1)
client.stop_job(job)
while not client.get_job_status(job).is_terminal():
    time.sleep(0.1)
print(client.get_job_status(job).value)
"""
    assert _said(_driver(ray_jobs, text, ray_jobs.jobs)).split()[-1] == "STOPPED"


def test_nothing_is_left_of_it():
    if why := _rays.missing():
        pytest.skip(why)
    with _rays.running(1) as rays:
        assert len(_of(rays)) > 3
    _until(lambda: not _of(rays))


def _of(rays) -> list[psutil.Process]:
    """The processes that know the cluster's token, without this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("RAY_AUTH_TOKEN") == rays.environment["RAY_AUTH_TOKEN"]:
                found.append(process)
    return found


def _until(true) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
