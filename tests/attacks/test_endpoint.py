"""Servers that break HTTP itself: a row fails with its reason, in time, whatever is sent."""

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewriting.endpoint import EndpointRewriter, RequestFailedError
from igpo_lightning.settings import RewriterConfig

PROBLEM = Problem(id="p", question="3 + 4?", solution="3 + 4 = 7", answer="7")
OK = b"HTTP/1.1 200 OK\r\n"
TIMEOUT = 0.5  # seconds of rewriter.timeout

Send = Callable[[bytes], None]


def dripping_headers(send: Send) -> None:
    send(OK)
    for number in range(200):
        send(f"x-{number}: y\r\n".encode())
        time.sleep(0.1)


def endless_headers(send: Send) -> None:
    send(OK)
    for number in range(10**6):
        send(f"x-{number}: {'y' * 1000}\r\n".encode())


def one_endless_header(send: Send) -> None:
    send(OK + b"x: ")
    for _ in range(10**5):
        send(b"y" * 10_000)


def endless_body(send: Send) -> None:
    send(OK + b"transfer-encoding: chunked\r\n\r\n")
    for _ in range(10**5):
        send(b"2710\r\n" + b" " * 10_000 + b"\r\n")


def bomb(send: Send) -> None:
    body = gzip.compress(b" " * 10**8)
    head = f"content-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n"
    send(OK + head.encode() + body)


def whole(text: bytes) -> Callable[[Send], None]:
    return lambda send: send(text)


SERVERS: dict[str, Callable[[Send], None]] = {
    "dripping headers": dripping_headers,
    "endless headers": endless_headers,
    "one endless header": one_endless_header,
    "an endless body": endless_body,
    "a bomb in gzip": bomb,
    "nothing": whole(b""),
    "silence": lambda send: time.sleep(20),
    "no HTTP": whole(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a status that is none": whole(b"HTTP/1.1 999999 X\r\n\r\n"),
    "a negative length": whole(OK + b"content-length: -1\r\n\r\n{}"),
    "a length of 10^18": whole(OK + b"content-length: 1000000000000000000\r\n\r\n{}"),
    "a torn chunk": whole(OK + b"transfer-encoding: chunked\r\n\r\nffff\r\n{"),
    "a chunk length that is none": whole(OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\n{}\r\n"),
    "gzip that is none": whole(OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}"),
    "an encoding nobody knows": whole(OK + b"content-encoding: x\r\ncontent-length: 2\r\n\r\n{}"),
    "a redirect to itself": whole(b"HTTP/1.1 307 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"),
    "a redirect to a file": whole(
        b"HTTP/1.1 307 X\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n"
    ),
    "a pause of 10^9 seconds": whole(
        b"HTTP/1.1 503 X\r\nretry-after: 1000000000\r\ncontent-length: 0\r\n\r\n"
    ),
    "an error with escape sequences": whole(
        b"HTTP/1.1 500 X\r\ncontent-length: 9\r\n\r\n\x1b]0;x\x07\x1b[2"
    ),
}


@contextmanager
def served(answer: Callable[[Send], None]) -> Iterator[str]:
    """A server on loopback that sends this to everybody who asks; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            answer(connection.sendall)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def ask(url: str) -> str:
    async def once() -> str:
        settings = RewriterConfig(
            kind="endpoint",
            model="m",
            base_url=url,
            timeout=TIMEOUT,
            request_retries=1,
            requests_per_minute=None,
        )
        async with EndpointRewriter(settings, max_tokens=99) as endpoint:
            return await endpoint.rewrite(PROBLEM)

    return asyncio.run(once())


@pytest.mark.parametrize("name", SERVERS)
def test_a_hostile_server_fails_its_row_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    began = time.monotonic()
    with served(SERVERS[name]) as url, pytest.raises((RequestFailedError, ConfigError)) as error:
        ask(url)
    # Two tries and the pause between them, on a busy machine.
    assert time.monotonic() - began < 30
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    # Only what the server says of every request ends the run: a redirect that leads nowhere.
    assert isinstance(error.value, RequestFailedError) or "redirect" in name
