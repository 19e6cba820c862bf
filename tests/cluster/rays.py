"""A Ray cluster of one's own on this machine: a head that runs nothing and worker nodes, on loopback, with a token.

The nodes belong to a process of their own, so that neither Ray's settings nor its exit hooks reach the tests; it ends
them when its standard input ends, and so also when the tests are killed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

MEMORY = 100_000_000  # of a node's object store, in bytes
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps every port on loopback
    "RAY_USAGE_STATS_ENABLED": "0",
    # so that a killed node counts as dead after seconds
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass(frozen=True)
class Rays:
    """A cluster that runs; whoever has `environment` may connect to `address`, and to `jobs` if asked for."""

    address: str
    jobs: str
    environment: Mapping[str, str]
    _holder: subprocess.Popen[str]

    def kill(self, node: int) -> None:
        """Kill all processes of a worker node at once, counted from 0, as a machine that loses power."""
        self._ask("kill", node)

    def add(self) -> None:
        """Start one more worker node."""
        self._ask("add")

    def _ask(self, *words: object) -> None:
        print(*words, file=self._holder.stdin, flush=True)
        _answer(self._holder)


def missing() -> str:
    """Why there can be no Ray on this machine; empty where there can."""
    return "" if find_spec("ray") else "ray: not installed (pip install 'lossbench[ray]')"


@contextmanager
def running(nodes: int = 2, *, jobs: bool = False) -> Iterator[Rays]:
    """A cluster of worker nodes with one CPU each; `jobs` also starts the dashboard, which takes Ray Jobs.

    Raises: RuntimeError where it does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="lb-"))  # short, since a socket's path has at most 107 characters
    environment = ENVIRONMENT | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    words = [sys.executable, __file__, str(folder), str(nodes), str(int(jobs))]
    with (folder / "err").open("w") as err:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": err, "text": True}
        holder = subprocess.Popen(words, env=os.environ | environment, start_new_session=True, **pipes)
    try:
        address, dashboard = _answer(holder)
        yield Rays(address, f"http://{dashboard}" if jobs else "", environment, holder)
    except EOFError:
        raise RuntimeError(f"Ray does not start:\n{(folder / 'err').read_text()[-2000:]}") from None
    finally:
        holder.communicate()
        _end(holder.pid)
        shutil.rmtree(folder, ignore_errors=True)


def _end(session: int) -> None:
    """Kill what is left of a session; an agent would take seconds to see that its node is gone."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getsid(int(entry.name)) == session:
                os.kill(int(entry.name), signal.SIGKILL)


def _answer(holder: subprocess.Popen[str]) -> list[str]:
    assert holder.stdout is not None
    for line in holder.stdout:
        if line.startswith("["):
            return json.loads(line)
    raise EOFError


def _hold(folder: str, nodes: int, jobs: bool) -> None:
    """In the process of its own."""
    from ray.cluster_utils import Cluster

    common = {"node_ip_address": "127.0.0.1", "temp_dir": folder, "object_store_memory": MEMORY}
    dashboard = {"include_dashboard": jobs, "dashboard_host": "127.0.0.1", "dashboard_port": 0}
    head = common | dashboard | {"num_cpus": int(jobs), "dashboard_agent_listen_port": 0, "include_log_monitor": False}
    cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)

    def add(number: int) -> object:
        # names of its own: nodes that start at the same time would take the same ones
        sockets = {f"{kind}_socket_name": f"{folder}/{kind}{number}" for kind in ("raylet", "plasma_store")}
        return cluster.add_node(wait=False, num_cpus=1, **common, **sockets)

    try:
        with ThreadPoolExecutor() as threads:
            workers = list(threads.map(add, range(nodes)))
        cluster.wait_for_nodes()
        print(json.dumps([cluster.address, cluster.webui_url or ""]), flush=True)
        for line in sys.stdin:
            match line.split():
                case ["kill", node]:
                    cluster.remove_node(workers[int(node)], allow_graceful=False)
                case ["add"]:
                    workers.append(add(len(workers)))
                    cluster.wait_for_nodes()
            print("[]", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    _hold(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1")
