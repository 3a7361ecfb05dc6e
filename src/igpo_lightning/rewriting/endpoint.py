"""Rewrites from an instruction model behind an OpenAI-compatible endpoint (vLLM, SGLang, ...)."""

import asyncio
import json
import os
import time
from typing import Any

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError, first_line
from igpo_lightning.settings import RewriterConfig


class RequestFailedError(Exception):
    """A request that stayed without an answer after all retries; the row can be asked again."""


# What reading a reply may raise beside the client's own errors.
_NO_REPLY = (OSError, ValueError, RecursionError)
_LONGEST_REPLY = 4 * 2**20  # bytes; a rewrite of 10,000 tokens has a hundredth


_LONGEST_PAUSE = 10.0  # seconds between two tries; the client's longest is 8


async def _body(reply: Any) -> bytes:
    """All bytes of a reply.

    Raises:
        RequestFailedError: There are too many, or they are no body.
    """
    body = bytearray()
    try:
        async for part in reply.iter_bytes():
            body += part
            if len(body) > _LONGEST_REPLY:
                raise RequestFailedError(f"a reply of over {_LONGEST_REPLY} bytes")
    except (RequestFailedError, asyncio.TimeoutError):
        raise
    except Exception as error:  # of the library below the client: torn, or wrongly packed
        raise RequestFailedError(first_line(error)) from error
    return bytes(body)


def _checked(body: bytes) -> str:
    """The text of a reply.

    Raises:
        RequestFailedError: The body is no chat completion, or its text cannot be stored.
    """
    try:
        message = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise RequestFailedError(f"the reply is no chat completion: {body[:80]!r}") from error
    if message is None:  # the model has nothing to say
        return ""
    if not isinstance(message, str):
        raise RequestFailedError(f"the reply's content is {type(message).__name__}, not text")
    try:
        message.encode()
    except UnicodeEncodeError as error:
        raise RequestFailedError("the reply holds half of a surrogate pair") from error
    return message.strip()


def _client_in_time(seconds: float) -> Any:
    """A client whose requests reach the reply's body in so many seconds, headers that drip or not.

    The library's own limit is for each read.
    """
    import openai

    parent: Any = openai.DefaultAsyncHttpxClient

    class InTime(parent):
        async def send(self, request: Any, **options: Any) -> Any:
            return await asyncio.wait_for(super().send(request, **options), seconds)

    return InTime()


class RateLimit:
    """Lets at most so many callers a minute pass, evenly spaced."""

    def __init__(self, per_minute: float | None) -> None:
        self._pause = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        """Return when the caller may go on."""
        now = time.monotonic()
        turn = max(now, self._next)
        self._next = turn + self._pause
        await asyncio.sleep(turn - now)


class EndpointRewriter:
    """Asks for one rewrite after the other; use as an asynchronous context manager.

    The key is read from OPENAI_API_KEY and never written anywhere.
    """

    def __init__(self, settings: RewriterConfig, max_tokens: int) -> None:
        """Make the client; nothing is sent yet.

        Args:
            settings: How the endpoint is asked. A request that fails (connection, 408, 409, 429,
                5xx) is repeated `request_retries` times, after a pause that doubles or that the
                server asks for (Retry-After).
            max_tokens: What {max_tokens} becomes: the longest rewrite that is accepted.

        Raises:
            ConfigError: The client library is missing, or neither a base URL nor a key is set.
        """
        try:
            import openai
        except ImportError as error:
            raise ConfigError(
                "rewriter.kind=endpoint: the openai client is not installed; "
                "pip install 'igpo-lightning[rewrite]'"
            ) from error
        key = os.environ.get("OPENAI_API_KEY")
        if not key and not settings.base_url:
            raise ConfigError(
                "rewriter.base_url=null: set OPENAI_BASE_URL to an OpenAI-compatible server (for "
                "example http://localhost:8000/v1), or OPENAI_API_KEY for the client's default one"
            )
        self._openai = openai
        self._settings, self._max_tokens = settings, max_tokens
        self._limit = RateLimit(settings.requests_per_minute)
        self._client: Any = openai.AsyncOpenAI(
            api_key=key or "none",  # a local server asks for none, the client does
            base_url=settings.base_url,
            max_retries=settings.request_retries,
            timeout=settings.timeout,
            http_client=_client_in_time(settings.timeout),
        )
        self.requests = 0

    async def __aenter__(self) -> "EndpointRewriter":
        """Nothing is sent before it is needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._client.close()

    async def rewrite(self, problem: Problem) -> str:
        """One rewrite of a problem's solution, as the model gives it.

        Raises:
            RequestFailedError: The request failed after all retries.
            ConfigError: The server refuses every such request: wrong key, model or prompt.
        """
        await self._limit.wait()
        self.requests += 1
        try:
            retries = self._settings.request_retries
            limit = self._settings.timeout * (1 + retries) + _LONGEST_PAUSE * retries
            return _checked(await asyncio.wait_for(self._ask(problem), limit))
        except asyncio.TimeoutError as error:
            raise RequestFailedError("the reply took longer than rewriter.timeout") from error
        except self._openai.RateLimitError as error:
            raise RequestFailedError(str(error)) from error
        except self._openai.APIStatusError as error:
            if error.status_code in (408, 409) or error.status_code >= 500:
                raise RequestFailedError(str(error)) from error
            raise ConfigError(
                f"rewriter.model={self._settings.model}: the server at {self._client.base_url} "
                f"refuses the request ({error.status_code}: {self._without_key(error.message)}); "
                "check the model's name (OPENAI_MODEL), the key (OPENAI_API_KEY) and "
                "rewriter.max_output_tokens"
            ) from None  # the cause would show the key, where the server repeats it
        except (self._openai.OpenAIError, *_NO_REPLY) as error:
            if isinstance(error.__cause__, asyncio.TimeoutError):
                raise RequestFailedError("no headers within rewriter.timeout") from error
            raise RequestFailedError(first_line(error)) from error

    async def _ask(self, problem: Problem) -> bytes:
        """The body of one reply, at most `_LONGEST_REPLY` bytes of it."""
        create = self._client.chat.completions.with_streaming_response.create
        async with create(
            model=self._settings.model,
            messages=self.messages(problem),
            temperature=self._settings.temperature,
            max_tokens=self._settings.max_output_tokens,
        ) as reply:
            # The client's own limit is for each part of the body, however many there are.
            return await asyncio.wait_for(_body(reply), self._settings.timeout)

    def _without_key(self, text: str) -> str:
        """The first line of what a server says, at most 200 characters, without the key."""
        key = self._client.api_key
        line = first_line(text.replace(key, "***") if len(key) > 4 else text)
        return line[:200]

    def messages(self, problem: Problem) -> list[dict[str, str]]:
        """The conversation that asks for a rewrite."""
        filled = self._settings.prompt
        values = {
            "question": problem.question,
            "answer": problem.answer,
            "max_tokens": str(self._max_tokens),
            "solution": problem.solution or "",
        }
        # Last the solution: it may hold any text, also that of a placeholder.
        for name, value in values.items():
            filled = filled.replace("{" + name + "}", value)
        system = [{"role": "system", "content": self._settings.system}]
        user = {"role": "user", "content": filled}
        return [*(system if self._settings.system else []), user]
