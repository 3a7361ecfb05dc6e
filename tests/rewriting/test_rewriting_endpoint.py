"""The endpoint path against a server on loopback: requests, failures, limits."""

import asyncio
import time
from typing import Any

import pytest
from completions_server import serve

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewriting.endpoint import (
    EndpointRewriter,
    RateLimit,
    RequestFailedError,
)
from igpo_lightning.settings import RewriterConfig

PROBLEM = Problem(id="p", question="3 + 4?", solution="Wait {answer} = 7", answer="7")


def settings(url: str | None, **changes: Any) -> RewriterConfig:
    values: dict[str, Any] = {
        "model": "m",
        "base_url": url,
        "system": "Be brief.",
        "prompt": "{question} {answer} {max_tokens}: {solution}",
        "kind": "endpoint",
        "temperature": 0.5,
        "max_output_tokens": 33,
        "requests_per_minute": None,
        "request_retries": 2,
        "timeout": 5.0,
    }
    return RewriterConfig(**{**values, **changes})


def ask(url: str | None, times: int = 1, **changes: Any) -> list[str]:
    async def all_of_them() -> list[str]:
        async with EndpointRewriter(settings(url, **changes), max_tokens=99) as endpoint:
            return list(await asyncio.gather(*(endpoint.rewrite(PROBLEM) for _ in range(times))))

    return asyncio.run(all_of_them())


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_what_is_asked_and_what_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with serve(lambda body, number: " 3 + 4 = 7 ") as seen:
        assert ask(seen.url) == ["3 + 4 = 7"]
    (body,) = seen.bodies
    # The solution holds "{answer}", which is not a placeholder there.
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "3 + 4? 7 99: Wait {answer} = 7"},
    ]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.5, 33)
    assert seen.keys == ["Bearer secret"]


def test_no_system_message() -> None:
    with serve(lambda body, number: "ok") as seen:
        ask(seen.url, system="")
    assert [m["role"] for m in seen.bodies[0]["messages"]] == ["user"]


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_a_failure_is_asked_again_after_a_pause(status: int) -> None:
    with serve(lambda body, number: status if number == 0 else "fine") as seen:
        assert ask(seen.url) == ["fine"]
    assert len(seen.bodies) == 2
    assert seen.times[1] - seen.times[0] >= 0.04


def test_pauses_grow() -> None:
    with serve(lambda body, number: 500 if number < 2 else "fine") as seen:
        assert ask(seen.url) == ["fine"]
    first, second = (seen.times[i + 1] - seen.times[i] for i in range(2))
    # 0.5 s and 1 s, each less up to a quarter; a busy machine can only make them longer.
    assert first > 0.3
    assert second > 0.7


@pytest.mark.parametrize("status", [429, 500])
def test_a_lasting_failure_can_be_asked_later(status: int) -> None:
    with (
        serve(lambda body, number: status) as seen,
        pytest.raises(RequestFailedError),
    ):
        ask(seen.url, request_retries=1)
    assert len(seen.bodies) == 2


def test_nobody_there() -> None:
    with serve(lambda body, number: "x") as seen:
        url = seen.url
    with pytest.raises(RequestFailedError):
        ask(url, request_retries=0)


def test_a_server_that_takes_too_long() -> None:
    with (
        serve(lambda body, number: "late", seconds=1.0) as seen,
        pytest.raises(RequestFailedError),
    ):
        ask(seen.url, timeout=0.2, request_retries=0)


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_the_users_to_mend(status: int) -> None:
    with (
        serve(lambda body, number: status) as seen,
        pytest.raises(ConfigError, match=f"rewriter.model=m: .*{status}.*OPENAI_MODEL"),
    ):
        ask(seen.url)
    assert len(seen.bodies) == 1


def test_neither_url_nor_key() -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL"):
        EndpointRewriter(settings(None), max_tokens=99)


def test_the_rate_limit_spaces_requests() -> None:
    with serve(lambda body, number: "x") as seen:
        ask(seen.url, times=5, requests_per_minute=600)  # one every 0.1 s
    pauses = [b - a for a, b in zip(sorted(seen.times)[:-1], sorted(seen.times)[1:], strict=True)]
    assert sum(pauses) >= 0.35
    assert len(seen.times) == 5


def test_no_rate_limit_waits_for_nothing() -> None:
    async def pass_all() -> float:
        limit, start = RateLimit(None), time.monotonic()
        await asyncio.gather(*(limit.wait() for _ in range(100)))
        return time.monotonic() - start

    assert asyncio.run(pass_all()) < 1.0


BAD_REPLIES = {
    "a page": b"<html>busy</html>",
    "half an object": b'{"choices": [',
    "nothing": b"",
    "an array": b"[1, 2]",
    "no choices": b"{}",
    "an empty list": b'{"choices": []}',
    "no message": b'{"choices": [{}]}',
    "a list as text": b'{"choices": [{"message": {"content": ["x"]}}]}',
    "half a surrogate pair": b'{"choices": [{"message": {"content": "\\ud800"}}]}',
    "no UTF-8": b'{"choices": [{"message": {"content": "\xff"}}]}',
    "deep": b"[" * 100_000,
    "too long": b" " * (5 * 2**20),
}


@pytest.mark.parametrize("name", BAD_REPLIES)
def test_a_reply_that_is_no_completion_fails_its_row_alone(name: str) -> None:
    with (
        serve(lambda body, number: BAD_REPLIES[name]) as seen,
        pytest.raises(RequestFailedError) as error,
    ):
        ask(seen.url, request_retries=0)
    assert "\n" not in str(error.value)


def test_a_reply_without_text_is_empty() -> None:
    with serve(lambda body, number: b'{"choices": [{"message": {"content": null}}]}') as seen:
        assert ask(seen.url) == [""]


def test_bytes_that_drip_do_not_stretch_the_time_limit() -> None:
    start = time.monotonic()
    with (
        serve(lambda body, number: [b" "] * 100) as seen,
        pytest.raises(RequestFailedError, match="timeout"),
    ):
        ask(seen.url, timeout=0.5, request_retries=0)
    assert time.monotonic() - start < 8.0  # the whole reply would take 10 seconds


def test_a_key_that_the_server_repeats_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")
    with (
        serve(lambda body, number: 401) as seen,
        pytest.raises(ConfigError) as error,
    ):
        ask(seen.url)
    assert "sk-secret" not in str(error.value)
    assert error.value.__cause__ is None
    assert "401" in str(error.value)
