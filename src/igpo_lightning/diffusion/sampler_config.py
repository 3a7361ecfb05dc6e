"""Settings of the denoising loop, as plain values."""

from dataclasses import dataclass

from igpo_lightning.diffusion.unmasking import PROBABILITY_STRATEGIES, SCHEDULES, STRATEGIES

CACHES = ("none", "prefix", "dual")
EOS_RULES = ("free", "last", "never")
COMPILE_MODES = ("none", "default", "cuda_graphs")
AUTOCASTS = ("none", "bfloat16")


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of the denoising loop.

    Attributes:
        completion_length: Tokens in the completion, C.
        block_length: Tokens per block; blocks are filled from left to right. Divides C; equal to
            C it is full diffusion.
        steps: Denoising steps over all blocks; a multiple of the number of blocks. A parallel rule
            (`confidence_threshold`, `factor`) takes as many as it needs instead.
        temperature: Of the Gumbel-max draw; 0 takes the most probable token.
        remasking: Which masked positions a step commits first: "low_confidence", "random",
            "entropy", "margin" or "topk_margin" (see `unmasking.py`).
        cfg_scale: Weight w of classifier-free guidance, logits = u + (w + 1)(c - u), where u sees
            the prompt masked and hints as they are; 0 is off. Doubles the rows of a pass.
        cache: "none": every step runs the whole canvas. "prefix": keys and values before the
            block are kept; "dual": also those after it (Fast-dLLM, arXiv 2505.22618; approximate).
        confidence_threshold: Commit every position of the block whose score is at least this, and
            always the best; None for a fixed schedule.
        schedule: How many a step commits: "fixed", "linear" or "cosine".
        factor: Commit the n best positions with (n + 1)(1 - c_n) below this; None for off.
        remask: Probability, in [0, 1), that a step masks a token again that an earlier step of the
            block committed (ReMDM, arXiv 2503.00307); never a hint. 0 is off.
        top_k: Draw from the k most probable tokens; None for all.
        top_p: Draw from the fewest most probable tokens with at least this mass; None for all.
        cache_refresh: Renew the cache by a full pass every so many steps of a block, besides at its
            start; None for the start only.
        cache_blocks: Fill the cache by a full pass at the start of every so many blocks only; the
            blocks between renew the one before them and themselves.
        forbidden_ids: Token ids that are never produced, besides the mask token.
        eos: "free"; "last": positions whose token is EOS are committed after all others of the
            block; "never": EOS is never produced (LLaDA's two switches against early ends).
        stop_after_eos: Leave a row's later blocks once a finished block holds EOS, and fill them
            with EOS. The row up to its first EOS is the same; what follows it never counts.
        compile: "none"; "default": torch.compile; "cuda_graphs": torch.compile with CUDA graphs.
        autocast: Run the model in "bfloat16" autocast; "none": the precision around the call.
        token_budget: Canvas positions (rows times prompt and completion) of a micro-batch, for
            `evaluation.answer.Answerer`; None lets it count rows.
    """

    completion_length: int
    block_length: int
    steps: int
    temperature: float = 0.0
    remasking: str = "low_confidence"
    cfg_scale: float = 0.0
    cache: str = "none"
    confidence_threshold: float | None = None
    schedule: str = "fixed"
    factor: float | None = None
    remask: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    cache_refresh: int | None = None
    forbidden_ids: tuple[int, ...] = ()
    eos: str = "free"
    stop_after_eos: bool = False
    compile: str = "none"
    autocast: str = "none"
    token_budget: int | None = None
    cache_blocks: int = 1

    def __post_init__(self) -> None:
        self._check_lengths()
        for name, allowed in (
            ("remasking", tuple(STRATEGIES)),
            ("cache", CACHES),
            ("schedule", SCHEDULES),
            ("eos", EOS_RULES),
            ("compile", COMPILE_MODES),
            ("autocast", AUTOCASTS),
        ):
            value = getattr(self, name)
            self._check(value in allowed, name, f"is unknown; use one of {allowed}")
        self._check(self.temperature >= 0, "temperature", "is negative")
        self._check(self.cfg_scale >= 0, "cfg_scale", "is negative")
        self._check(0 <= self.remask < 1, "remask", "is outside [0, 1)")
        self._check_drawing()
        self._check_parallel()
        if self.compile == "cuda_graphs":
            self._check(self.cache == "none", "compile", "needs cache='none'")
        if self.token_budget is not None:
            self._check(self.token_budget >= 1, "token_budget", "is below 1")
        if self.cache_refresh is not None:
            self._check(self.cache != "none", "cache_refresh", "needs cache='prefix' or 'dual'")
            self._check(self.cache_refresh >= 1, "cache_refresh", "is below 1")
        self._check(self.cache_blocks >= 1, "cache_blocks", "is below 1")
        if self.cache_blocks > 1:
            self._check(self.cache != "none", "cache_blocks", "needs cache='prefix' or 'dual'")
            self._check(self.cache_refresh is None, "cache_refresh", "needs cache_blocks=1")

    def _check(self, fits: bool, name: str, problem: str) -> None:
        if not fits:
            raise ValueError(f"{name}={getattr(self, name)!r} {problem}")

    def _check_lengths(self) -> None:
        length, width = self.completion_length, self.block_length
        self._check(length >= 1, "completion_length", "is below 1")
        self._check(width >= 1, "block_length", "is below 1")
        problem = f"is no multiple of block_length={width}"
        self._check(length % width == 0, "completion_length", problem)
        problem = f"is no multiple of the {self.blocks} blocks"
        self._check(self.steps >= self.blocks, "steps", problem)
        self._check(self.steps % self.blocks == 0, "steps", problem)

    def _check_drawing(self) -> None:
        if self.top_k is not None:
            self._check(self.top_k >= 1, "top_k", "is below 1")
        if self.top_p is not None:
            self._check(0 < self.top_p <= 1, "top_p", "is outside (0, 1]")

    def _check_parallel(self) -> None:
        for name in ("confidence_threshold", "factor"):
            if getattr(self, name) is None:
                continue
            probability = self.remasking in PROBABILITY_STRATEGIES
            self._check(probability, name, f"needs remasking to be one of {PROBABILITY_STRATEGIES}")
            self._check(self.remask == 0, name, "cannot be combined with remask")
            self._check(self.schedule == "fixed", name, f"replaces schedule={self.schedule!r}")
        if self.confidence_threshold is not None:
            self._check(self.factor is None, "factor", "and confidence_threshold exclude another")
            inside = 0 <= self.confidence_threshold <= 1
            self._check(inside, "confidence_threshold", "is outside [0, 1]")
        if self.factor is not None:
            self._check(self.factor > 0, "factor", "is not above 0")

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.completion_length // self.block_length

    @property
    def steps_per_block(self) -> int:
        """Steps of each block in a fixed schedule."""
        return self.steps // self.blocks

    @property
    def parallel(self) -> bool:
        """Whether the scores decide how many positions a step commits."""
        return self.confidence_threshold is not None or self.factor is not None

    @property
    def random(self) -> bool:
        """Whether anything is drawn, so that rows need keys."""
        return self.temperature > 0 or self.remasking == "random" or self.remask > 0
