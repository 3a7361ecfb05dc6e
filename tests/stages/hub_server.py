"""A stand-in for the Hugging Face hub that takes uploads: the few addresses a push asks for."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """Keeps what it was sent.

    Attributes:
        files: Of every commit: path: content.
        created: Bodies of the requests for new repositories.
        tokens: Authorization headers that were seen.
        refuses: Whether every request is forbidden.
    """

    def __init__(self, refuses: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, object]] = []
        self.tokens: set[str] = set()
        self.refuses = refuses

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""

    def answer(self, content: object, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer({"id": "me/model", "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.tokens.add(self.headers.get("Authorization", ""))
        if self.server.refuses:
            self.answer({"error": "this token may not write"}, 403)
        elif self.path.startswith("/api/repos/create"):
            self.server.created.append(json.loads(body))
            self.answer({"url": f"{self.server.address}/me/model", "id": "me/model"})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            plain = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            self.answer({"files": plain})
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.server.files[entry["value"]["path"]] = content
            address = f"{self.server.address}/me/model/commit/1"
            self.answer({"commitUrl": address, "commitOid": "1" * 40})
        else:
            self.answer({})


@contextmanager
def hub(refuses: bool = False) -> Iterator[Hub]:
    """A running stand-in."""
    server = Hub(refuses)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
