"""Rewrites from an instruction model behind an OpenAI-compatible endpoint (vLLM, SGLang, ...)."""

import asyncio
import os
import time
from typing import Any

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import RewriterConfig


class RequestFailedError(Exception):
    """A request that stayed without an answer after all retries; the row can be asked again."""


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
            reply = await self._client.chat.completions.create(
                model=self._settings.model,
                messages=self.messages(problem),
                temperature=self._settings.temperature,
                max_tokens=self._settings.max_output_tokens,
            )
        except (self._openai.APIConnectionError, self._openai.InternalServerError) as error:
            raise RequestFailedError(str(error)) from error
        except self._openai.RateLimitError as error:
            raise RequestFailedError(str(error)) from error
        except self._openai.APIStatusError as error:
            if error.status_code in (408, 409):
                raise RequestFailedError(str(error)) from error
            raise ConfigError(
                f"rewriter.model={self._settings.model}: the server at {self._client.base_url} "
                f"refuses the request ({error.status_code}: {error.message}); check the model's "
                "name (OPENAI_MODEL), the key (OPENAI_API_KEY) and rewriter.max_output_tokens"
            ) from error
        if not reply.choices:
            return ""
        return str(reply.choices[0].message.content or "").strip()

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
