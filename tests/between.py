"""What may stand between us and a tracking server: a network that loses answers, a server that fails or hangs."""

from __future__ import annotations

import base64
import contextlib
import http.client
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lossbench.core import DatasetInfo

FACTS = DatasetInfo("toy", "regression", (1,), (1,), "nowhere", "none", "ab" * 32)
POINTS = [(step, 1 / step) for step in range(1, 301)]
HOP = {"connection", "transfer-encoding", "content-length", "host", "server", "date"}


class Between:
    """Passes requests on to a server at a port, but for what it is told to do to them."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.down = False  # connections end without an answer, and nothing is passed on
        self.lose: list[str] = []  # ends of paths whose next request is passed on and not answered
        self.failing = 0.0  # share of requests that are answered with 500, half of them passed on
        self.only = ""  # user:password that a request has to bring
        self.seen: list[str] = []
        self._chance = random.Random(0)
        self._guard = threading.Lock()

    def fate(self, path: str) -> tuple[bool, bool, int]:
        """Whether a request is passed on, whether it is answered, and with what, if not as it should be."""
        with self._guard:
            self.seen.append(path)
            lost = next((end for end in self.lose if path.partition("?")[0].endswith(end)), None)
            if lost is not None:
                self.lose.remove(lost)
                return True, False, 0
            if self._chance.random() < self.failing:
                return self._chance.random() < 0.5, True, 500
            return not self.down, not self.down, 0


@contextlib.contextmanager
def between(upstream: int) -> Iterator[tuple[Between, str]]:
    """A `Between`, and its address."""
    told = Between(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = f"Basic {base64.b64encode(told.only.encode()).decode()}"
            if told.only and self.headers.get("Authorization") != asked:
                return self._answer(401, [], b"You are not authenticated")
            on, answered, status = told.fate(self.path)
            answer = 0, [], b""
            if on:
                connection = http.client.HTTPConnection("127.0.0.1", told.upstream, timeout=30)
                with contextlib.closing(connection), contextlib.suppress(OSError):
                    kept = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
                    connection.request(self.command, self.path, body, kept)
                    came = connection.getresponse()
                    answer = came.status, came.getheaders(), came.read()
            if not answered or not (answer[0] or status):
                self.close_connection = True
                return None
            return self._answer(status, [], b"") if status else self._answer(*answer)

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def record(recorder, points=POINTS, *, status="FINISHED"):
    """All kinds of entries; how long the longest call took."""
    longest = 0.0

    def timed(call, *words):
        nonlocal longest
        since = time.monotonic()
        call(*words)
        longest = max(longest, time.monotonic() - since)

    timed(recorder.params, {"lr": 0.1})
    timed(recorder.data, FACTS)
    timed(recorder.tags, {"lossbench.outcome": "finished"})
    with recorder.files() as folder:
        (folder / "note.txt").write_text("hello")
    for step, value in points:
        recorder.metrics(step, {"a": value})
        if step % 50 == 0:
            timed(recorder.store.flush, [recorder])
    timed(recorder.end, status)
    return longest
