"""A chat-completions server on loopback that answers well, or misbehaves in a chosen way."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], str]


class Stub(ThreadingHTTPServer):
    """Answers `answer(question)`, unless `behaviour` says otherwise; keeps the questions."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = "well"
        self.answer: Answer = lambda question: '{"label": "a word"}'
        self.questions: list[str] = []
        self.fail_first = 0
        self.release = threading.Event()
        """Ends what hangs."""
        self.was_cut = threading.Event()
        """A dripping answer was not waited for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is what is tested."""


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.questions.append(body["messages"][-1]["content"])
        behaviour = self.server.behaviour
        if self.server.fail_first > 0:
            self.server.fail_first -= 1
            behaviour = "error 500"
        getattr(self, "_" + behaviour.split()[0])(*behaviour.split()[1:])

    def _send(self, raw: bytes, status: int = 200, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw) if length is None else length))
        self.end_headers()
        self.wfile.write(raw)

    def _well(self) -> None:
        content = self.server.answer(self.server.questions[-1])
        self._send(json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode())

    def _error(self, status: str) -> None:
        self._send(b'{"error": "no"}', int(status))

    def _raw(self, kind: str) -> None:
        raw = {
            "html": b"<html>busy</html>",
            "empty": b"",
            "binary": bytes(range(256)),
            "schema": b'{"choices": []}',
            "type": b'{"choices": [{"message": {"content": 7}}]}',
            "blank": b'{"choices": [{"message": {"content": "  "}}]}',
            "deep": b"[" * 100_000,
            "list": b"[1, 2]",
            "enormous": b'{"choices": [{"message": {"content": "' + b"a" * (2 << 20) + b'"}}]}',
        }[kind]
        self._send(raw)

    def _hang(self) -> None:
        self.server.release.wait(20)

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "150")
        self.end_headers()
        for _ in range(150):  # three seconds, then it would have been read to the end
            self.server.release.wait(0.02)
            try:
                self.wfile.write(b" ")
                self.wfile.flush()
            except OSError:
                self.server.was_cut.set()
                return

    def _close(self) -> None:
        self._send(b'{"choices": [{"mess', length=5000)
        self.close_connection = True

    def _cut(self) -> None:
        """Close without a word."""
        self.close_connection = True

    def _redirect(self) -> None:
        self.send_response(302)
        self.send_header("Location", "http://192.0.2.1/v1/chat/completions")
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def running() -> Iterator[Stub]:
    """Run a stub until the block ends."""
    stub = Stub()
    thread = threading.Thread(target=lambda: stub.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.release.set()
        stub.shutdown()
        thread.join()
        stub.server_close()
