"""Who rewrites long traces, and how it is asked."""

from dataclasses import dataclass

from igpo_lightning.settings.rules import above_zero, at_least, choice, require, within

REWRITERS = ("extractive", "endpoint")


@dataclass(frozen=True)
class RewriterConfig:
    """Rules, or an instruction model behind an OpenAI-compatible endpoint."""

    kind: str = "extractive"  # extractive: by rules, offline | endpoint: an instruction model
    attempts: int = 1  # rewrites of a row that may fail a check before it is dropped
    keep_fitting: bool = False  # take originals that fulfil everything as they are, unasked
    model: str | None = None  # endpoint: the model's name there
    base_url: str | None = None  # endpoint: of the API, for example http://localhost:8000/v1
    system: str = ""  # endpoint: system message
    prompt: str = ""  # endpoint: with {question}, {solution}, {answer}, {max_tokens}
    temperature: float = 0.7  # endpoint: of sampling
    max_output_tokens: int = 2048  # endpoint: tokens after which an answer is cut
    concurrency: int = 1  # rows that are worked on at the same time
    requests_per_minute: float | None = None  # endpoint: at most; null for no limit
    request_retries: int = 6  # endpoint: of a failed request, with growing pauses
    timeout: float = 600.0  # endpoint: seconds a request may take in all, to its last byte

    def __post_init__(self) -> None:
        """Refuse values out of range; `checks` asks for a model and a prompt where one is used."""
        choice(self, "rewriter", kind=REWRITERS)
        at_least(self, "rewriter", 1, "attempts", "concurrency", "max_output_tokens")
        at_least(self, "rewriter", 0, "request_retries", "temperature")
        above_zero(self, "rewriter", "timeout", "requests_per_minute")
        within(self, "rewriter", 0, 86_400, "timeout")

    def check_endpoint(self) -> None:
        """What an endpoint needs beside the defaults; asked by the stage that rewrites."""
        if self.kind != "endpoint":
            return
        fix = "set OPENAI_MODEL to the model's name on the server"
        require(bool(self.model), "rewriter.model", self.model, fix)
        require(
            "{solution}" in self.prompt,
            "rewriter.prompt",
            repr(self.prompt[:60]),
            "must hold {solution}, and may hold {question}, {answer} and {max_tokens}; "
            "rewriter=endpoint has a prompt",
        )
