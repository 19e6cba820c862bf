"""Ways to a store that can be cut, that hang, that fail, and that lose what is answered."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

CHUNK = 65536
PATIENCE_S = 60
POLL_S = 0.02  # until a front that is closed hears of it
HOP = {"connection", "transfer-encoding", "content-length", "host", "server", "date"}  # headers of one hop


class Wire:
    """A port on loopback that leads to another one, unless it is cut or hangs.

    With `lossy`, so large a share of a database's commits arrive and are not answered: the connection ends instead.
    """

    def __init__(self, target: int, random: Random) -> None:
        self._target, self._random = target, random
        self._going_on, self._pairs = threading.Event(), list[socket.socket]()
        self.port, self.lossy = 0, 0.0
        self.mend()

    def mend(self) -> None:
        """Lead there, from the same port as ever."""
        self.lossy = 0.0
        if not self.port or self._listener.fileno() < 0:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        self._going_on.set()

    def cut(self) -> None:
        """Refuse connections, and end those that are."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which wakes who waits for the next one
        self._listener.close()
        for end in self._pairs:
            _ended(end)
        self._pairs.clear()

    close = cut

    def hang(self) -> None:
        """Take whatever comes, and say nothing."""
        self._going_on.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target), timeout=PATIENCE_S)
                except OSError:
                    _ended(near)
                    continue
                far.settimeout(None)
                self._pairs += [near, far]
                unanswered = threading.Event()
                for ends in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass_on, args=(*ends, unanswered), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, forth: bool, unanswered: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._going_on.wait()
                if forth and b"COMMIT" in data and self._random.random() < self.lossy:
                    unanswered.set()
                elif not forth and unanswered.is_set():
                    break
                sink.sendall(data)
        _ended(source)
        _ended(sink)


def _ended(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class Front:
    """An HTTP server before another one: it passes requests on, but for what it is told to do to them.

    `failing` is the share of requests that are answered with 500, half of which were passed on; `lossy` the share that
    is passed on and not answered.
    """

    def __init__(self, target: int, random: Random | None = None) -> None:
        self.target = target
        self.only = ""  # user:password that a request has to bring
        self.lose: list[str] = []  # ends of paths whose next request is passed on and not answered
        self.seen: list[str] = []
        self._random, self._guard = random or Random(0), threading.Lock()
        self.mend()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"front": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": POLL_S}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        """Pass everything on, and every answer back."""
        self.down = False  # connections end without an answer, and nothing is passed on
        self.failing = self.lossy = 0.0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fate(self, path: str) -> tuple[bool, bool, int]:
        """Whether a request is passed on, whether it is answered, and with what, if not as it should be."""
        with self._guard:
            self.seen.append(path)
            lost = next((end for end in self.lose if path.partition("?")[0].endswith(end)), None)
            if lost is not None:
                self.lose.remove(lost)
                return True, False, 0
            if self._random.random() < self.failing:
                return self._random.random() < 0.5, True, 500
            if self._random.random() < self.lossy:
                return True, False, 0
            return not self.down, not self.down, 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: Front

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = f"Basic {base64.b64encode(self.front.only.encode()).decode()}"
        if self.front.only and self.headers.get("Authorization") != asked:
            return self._answer(401, [], b"You are not authenticated")
        on, answered, status = self.front.fate(self.path)
        answer = self._asked(body) if on else (0, [], b"")
        if not answered or not (answer[0] or status):
            self.close_connection = True
            return None
        return self._answer(status, [], b"") if status else self._answer(*answer)

    def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the server answers; a status of 0 where it does not."""
        there = http.client.HTTPConnection("127.0.0.1", self.front.target, timeout=PATIENCE_S)
        with contextlib.closing(there), contextlib.suppress(OSError):
            there.request(
                self.command, self.path, body, {k: v for k, v in self.headers.items() if k.lower() not in HOP}
            )
            answer = there.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        return 0, [], b""

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def log_message(self, *said: object) -> None: ...
