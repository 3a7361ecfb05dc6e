"""A small server that speaks the chat-completions protocol and fails as told."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Takes the request's body and its number from 0; gives the answer's text or an HTTP status.
# Bytes are sent as they are, as the body of a reply with status 200; a list byte string by byte
# string, with a pause before each.
Behaviour = Callable[[dict[str, Any], int], str | int | bytes | list[bytes]]


@dataclass
class Seen:
    """What reached the server."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serve(behaviour: Behaviour, seconds: float = 0.0) -> Iterator[Seen]:
    """Serve on a free port of the loopback interface; every answer takes so many seconds."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with seen.lock:
                number = len(seen.bodies)
                seen.bodies.append(body)
                seen.times.append(time.monotonic())
                seen.keys.append(self.headers["Authorization"])
                seen.at_once += 1
                seen.most_at_once = max(seen.most_at_once, seen.at_once)
            time.sleep(seconds)
            answer = behaviour(body, number)
            with seen.lock:
                seen.at_once -= 1
            if isinstance(answer, bytes | list):
                self._send_raw(answer)
            elif isinstance(answer, int):
                key = self.headers["Authorization"]
                self._send(answer, {"error": {"message": f"status {answer} for {key}"}})
            else:
                message = {"role": "assistant", "content": answer}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
                self._send(200, {**reply, "choices": [choice]})

        def _send(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status == 429:
                self.send_header("Retry-After", "0.05")
            self.end_headers()
            self.wfile.write(data)

        def _send_raw(self, parts: bytes | list[bytes]) -> None:
            parts = [parts] if isinstance(parts, bytes) else parts
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(sum(map(len, parts))))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client went away
                for part in parts:
                    time.sleep(0.1 if len(parts) > 1 else 0)
                    self.wfile.write(part)
                    self.wfile.flush()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
