"""The denoising loop."""

from dataclasses import dataclass, replace

from igpo_lightning.settings.rules import above_zero, as_tuples, at_least, choice, require, within

# Strategies whose scores are probabilities in [0, 1]: parallel rules need one of them.
PROBABILITIES = ("low_confidence", "margin", "topk_margin")
REMASKING = (*PROBABILITIES, "random", "entropy", "sequential")
EOS_RULES = ("free", "last", "never")
CANVASES = ("whole", "growing")
HINTS_AHEAD = ("visible", "waiting")
CACHES = ("none", "prefix", "dual")
COMPILE_MODES = ("none", "default", "cuda_graphs")
DRIFT_ACTIONS = ("exact", "refresh")


@dataclass(frozen=True)
class SamplerConfig:
    """How a completion is denoised; diffusion/sampler.py is the loop."""

    completion_length: int = 256  # tokens, C (the paper: 256)
    block_length: int = 32  # tokens; divides C, and is C for full diffusion (the paper: 32)
    steps: int = 128  # denoising steps over all blocks, a multiple of their number (the paper: 128)
    temperature: float = 0.0  # of the Gumbel-max draw; 0 is greedy (the paper's rollouts: 1.2)
    remasking: str = "low_confidence"  # or random, entropy, margin, topk_margin, sequential
    cfg_scale: float = 0.0  # w of guidance, logits = u + (w + 1)(c - u); above 0 doubles the work
    cache: str = "none"  # none (exact) | prefix | dual (approximate, Fast-dLLM, arXiv 2505.22618)
    confidence_threshold: float | None = None  # in [0, 1]: commit all above, steps as needed
    canvas: str = "whole"  # whole | growing: blocks are appended until EOS, unseen before (iLLaDA)
    hints_ahead: str = "visible"  # growing: hints behind its end are seen | waiting: once reached
    factor: float | None = None  # above 0: commit the n best with (n + 1)(1 - c_n) < factor
    entropy_bound: float | None = None  # above 0: commit the best while the sum of -p ln p is below
    remask: float = 0.0  # in [0, 1): chance that a step masks a token again (ReMDM, 2503.00307)
    top_k: int | None = None  # draw from the k most probable tokens
    top_p: float | None = None  # in (0, 1]: draw from the most probable tokens of this mass
    cache_refresh: int | None = None  # steps of a block between full passes (dKV-Cache); null: none
    cache_blocks: int = 1  # full pass at the start of every so many blocks; between, windows only
    edit_threshold: float | None = None  # in [0, 1]: a block's tokens change above it (LLaDA 2.1)
    edit_passes: int = 16  # most passes over a block without masks that only edit
    think_ids: tuple[int, ...] = ()  # tokens of </think>: their logits grow until they are written
    think_boost: float = 100.0  # added at the completion's end (iLLaDA: 100)
    think_power: float = 3.0  # of the share of the completion that is written (iLLaDA: 3)
    eos: str = "free"  # free | last: committed after the block's other tokens | never
    stop_after_eos: bool = False  # fill a row's blocks behind EOS with EOS; its live part is equal
    compile: str = "none"  # none | default: torch.compile | cuda_graphs: with CUDA graphs
    drift_share: float = 0.0  # in [0, 1): of a rollout's computation, to compare it with the policy
    drift_limit: float | None = None  # nats a token, above 0: of the cache's drift (drift_mean)
    drift_action: str = "exact"  # above it: exact | refresh: a cache renewed more often first
    drift_joint_limit: float | None = None  # nats a token, above 0: above it no parallel commits
    token_budget: int | None = None  # canvas positions a micro-batch; null: so many rows as set

    def __post_init__(self) -> None:
        """Refuse what no loop can run."""
        as_tuples(self, "think_ids")
        at_least(self, "sampler", 1, "completion_length", "block_length", "cache_blocks", "top_k")
        at_least(self, "sampler", 1, "cache_refresh", "token_budget")
        at_least(self, "sampler", 0, "temperature", "cfg_scale", "edit_passes")
        at_least(self, "sampler", 0, "think_boost", "think_power")
        within(self, "sampler", 0, 1, "remask", "confidence_threshold", "edit_threshold", "top_p")
        within(self, "sampler", 0, 1, "drift_share")
        require(self.remask < 1, "sampler.remask", self.remask, "must be below 1")
        above_zero(self, "sampler", "top_p", "factor", "entropy_bound")
        above_zero(self, "sampler", "drift_limit", "drift_joint_limit")
        choice(
            self,
            "sampler",
            remasking=REMASKING,
            eos=EOS_RULES,
            canvas=CANVASES,
            hints_ahead=HINTS_AHEAD,
            cache=CACHES,
            compile=COMPILE_MODES,
            drift_action=DRIFT_ACTIONS,
        )
        self._check_blocks()
        self._check_parallel()
        self._check_cache()
        self._check_drift()

    def _check_blocks(self) -> None:
        length, width, steps = self.completion_length, self.block_length, self.steps
        fix = f"must divide sampler.completion_length={length}"
        require(length % width == 0, "sampler.block_length", width, fix)
        blocks = self.blocks
        fix = (
            f"must be a multiple of the {blocks} blocks (sampler.completion_length={length} / "
            f"sampler.block_length={width}), for example {max(1, round(steps / blocks)) * blocks}"
        )
        require(steps >= blocks and steps % blocks == 0, "sampler.steps", steps, fix)

    def _check_parallel(self) -> None:
        if not self.parallel:
            return
        probabilities = ", ".join(PROBABILITIES)
        rules = ("confidence_threshold", "factor", "entropy_bound")
        rule, *others = (name for name in rules if getattr(self, name) is not None)
        for key, fits, fix in (
            *((other, False, "give only one of the two") for other in others),
            (
                "remasking",
                self.remasking in PROBABILITIES,
                f"use one of {probabilities}",
            ),
            ("remask", self.remask == 0, "leave it at 0"),
        ):
            value = getattr(self, key)
            require(fits, f"sampler.{key}", value, f"with sampler.{rule} set: {fix}")

    def _check_cache(self) -> None:
        for name, neutral in (("cache_refresh", None), ("cache_blocks", 1)):
            value = getattr(self, name)
            require(
                self.cache != "none" or value == neutral,
                f"sampler.{name}",
                value,
                "there is no cache to refresh; set sampler.cache=prefix or dual, or leave it "
                + ("null" if neutral is None else str(neutral)),
            )
        require(
            self.canvas == "whole" or self.cache_blocks == 1,
            "sampler.cache_blocks",
            self.cache_blocks,
            "sampler.canvas=growing has a longer canvas for every block; leave it 1",
        )
        require(
            self.canvas == "whole" or self.compile != "cuda_graphs",
            "sampler.compile",
            self.compile,
            "would record a graph for every block of sampler.canvas=growing; use default or none",
        )
        require(
            self.cache_refresh is None or self.cache_blocks == 1,
            "sampler.cache_refresh",
            self.cache_refresh,
            f"cannot be combined with sampler.cache_blocks={self.cache_blocks}; leave one as it is",
        )
        require(
            self.compile != "cuda_graphs" or self.cache == "none",
            "sampler.compile",
            self.compile,
            f"cannot replay sampler.cache={self.cache}; use sampler.compile=default with a cache",
        )

    def _check_drift(self) -> None:
        fix = "is measured without guidance; set sampler.drift_share=0 or sampler.cfg_scale=0"
        fits = self.drift_share == 0 or self.cfg_scale == 0
        require(fits, "sampler.drift_share", self.drift_share, fix)
        fix = "is measured on a whole canvas; set sampler.drift_share=0 or sampler.canvas=whole"
        fits = self.drift_share == 0 or self.canvas == "whole"
        require(fits, "sampler.drift_share", self.drift_share, fix)
        fix = "needs a measurement; set sampler.drift_share, for example to 0.03"
        for name in ("drift_limit", "drift_joint_limit"):
            limit = getattr(self, name)
            require(limit is None or self.drift_share > 0, f"sampler.{name}", limit, fix)
        fits = self.drift_joint_limit is None or self.parallel
        fix = "limits parallel commits; set sampler.confidence_threshold, or leave it null"
        require(fits, "sampler.drift_joint_limit", self.drift_joint_limit, fix)
        fits = self.drift_action == "exact" or self.cache != "none"
        fix = "there is no cache to refresh; set sampler.cache=prefix or dual, or leave it exact"
        require(fits, "sampler.drift_action", self.drift_action, fix)

    @property
    def exact(self) -> "SamplerConfig":
        """The same without what makes it approximate: the cache and parallel commits."""
        return replace(
            self.unmeasured.by_schedule,
            cache="none",
            cache_refresh=None,
            cache_blocks=1,
        )

    @property
    def by_schedule(self) -> "SamplerConfig":
        """The same without parallel commits."""
        return replace(
            self,
            confidence_threshold=None,
            factor=None,
            entropy_bound=None,
            drift_joint_limit=None,
        )

    @property
    def fresher(self) -> "SamplerConfig":
        """The same with a cache that is renewed more often, up to every step; exact after that."""
        if self.cache_blocks > 1:
            return replace(self, cache_blocks=1)
        every = self.steps_per_block if self.cache_refresh is None else self.cache_refresh
        if self.cache == "none" or every == 1:
            return self.exact
        return replace(self, cache_refresh=every // 2)

    @property
    def unmeasured(self) -> "SamplerConfig":
        """The same, its drift neither measured nor limited."""
        return replace(
            self,
            drift_share=0.0,
            drift_limit=None,
            drift_action="exact",
            drift_joint_limit=None,
        )

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.completion_length // self.block_length

    @property
    def steps_per_block(self) -> int:
        """Steps of each block in a fixed schedule."""
        return self.steps // self.blocks

    def steps_in_order(self, block_size: int | None) -> int:
        """Steps whose order matters: all, or those of one block where attention is block-causal."""
        if block_size is None:
            return self.steps
        return self.steps_per_block * (block_size // self.block_length)

    @property
    def parallel(self) -> bool:
        """Whether the scores decide how many positions a step commits."""
        rules = (self.confidence_threshold, self.factor, self.entropy_bound)
        return any(rule is not None for rule in rules)

    @property
    def random(self) -> bool:
        """Whether anything is drawn, so that rows need keys."""
        return self.temperature > 0 or self.remasking == "random" or self.remask > 0
