"""Ways to a store that can be cut, that hang, and that lose what is answered."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

CHUNK = 65536
PATIENCE_S = 60


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
    """An HTTP server before another one: a share of requests fails with 500, another is done and not answered."""

    def __init__(self, target: int, random: Random) -> None:
        self.failing = self.lossy = 0.0
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if random.random() < front.failing:
                    self.send_error(500)
                    return
                there = http.client.HTTPConnection("127.0.0.1", target, timeout=PATIENCE_S)
                there.request(
                    self.command, self.path, body, {k: v for k, v in self.headers.items() if k != "Connection"}
                )
                answer = there.getresponse()
                told = answer.read()
                there.close()
                if random.random() < front.lossy:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

            def log_message(self, *said: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def mend(self) -> None:
        self.failing = self.lossy = 0.0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
