"""A row's way through its blocks: the same whatever rows share its passes."""

from dataclasses import dataclass

from igpo_lightning.settings import SamplerConfig


@dataclass
class Course:
    """Where a row stands, and which step it takes next.

    Attributes:
        row: Number in the canvas.
        length: Positions of its canvas, without padding.
        counts: [blocks], masked positions at the start.
        block: Where it stands; the number of blocks once all are done.
        step: Steps that this block has had.
        masked: Masked positions of the block.
        taken: Number of the row's next step over all blocks, with a parallel rule; otherwise one
            past the last step of the last block that it filled.
        entered: `taken` at the start of the blocks that share a cache.
        begun: Whether it has had a pass.
        kept: Whether the keys and values of a pass before serve the next one, which runs a window
            then; never without a cache.
    """

    row: int
    length: int
    counts: list[int]
    block: int = -1
    step: int = 0
    masked: int = 0
    taken: int = 0
    entered: int = 0
    begun: bool = False
    kept: bool = False

    @property
    def place(self) -> tuple[int, bool]:
        """Its block, and whether it is behind the block's first step: rows that share a window."""
        return self.block, self.step > 0

    def advance(self, config: SamplerConfig, quotas: list[list[int]]) -> bool:
        """Go to the next step that changes something.

        Args:
            config: The sampler.
            quotas: [W + 1][steps per block], commits of each step by the masked positions at the
                start of the block.

        Returns:
            Whether it is in another block than before.
        """
        before = self.block
        while self.block < config.blocks and not self._acts(config, quotas):
            scheduled = not config.parallel and self.step < config.steps_per_block
            if self.block >= 0 and scheduled:
                self._next_step(config)
            else:
                self._next_block(config)
        return self.block != before

    def step_taken(self, config: SamplerConfig, masked: int) -> None:
        """Note that it took a step, which left so many masked positions in the block."""
        self.begun, self.kept = True, config.cache != "none"
        if config.parallel:
            self.taken += self.masked > 0
        self.masked = masked
        self._next_step(config)

    def restart(self, config: SamplerConfig) -> range:
        """Go back to where the next pass is a full one; returns the blocks to be filled again."""
        first = self.block // config.cache_blocks * config.cache_blocks
        again = range(first, self.block + 1)
        self.block, self.taken, self.kept = first - 1, self.entered, False
        self._next_block(config)
        return again

    def _acts(self, config: SamplerConfig, quotas: list[list[int]]) -> bool:
        """Whether the next step has an effect on what comes after."""
        if self.block < 0:
            return False
        if self.step == 0 and self.kept:
            # The pass renews what the cache keeps of the block before, for all blocks that follow.
            until = (self.block // config.cache_blocks + 1) * config.cache_blocks
            return any(self.counts[self.block : until])
        if config.parallel:
            return self.masked > 0
        if self.step == config.steps_per_block:
            return False
        # A pass that commits nothing may mask again.
        commits = quotas[self.counts[self.block]][self.step]
        return commits > 0 or (self.masked > 0 and config.remask > 0)

    def _next_step(self, config: SamplerConfig) -> None:
        self.step += 1
        if config.cache_refresh is not None and self.step % config.cache_refresh == 0:
            self.kept = False

    def _next_block(self, config: SamplerConfig) -> None:
        if not config.parallel and self.block >= 0 and self.counts[self.block]:
            self.taken = (self.block + 1) * config.steps_per_block
        self.block, self.step = self.block + 1, 0
        self.masked = self.counts[self.block] if self.block < config.blocks else 0
        if self.block % config.cache_blocks == 0:
            self.kept, self.entered = False, self.taken
