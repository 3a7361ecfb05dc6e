"""A row's way through its blocks, the same whatever rows share its passes; a step of some rows."""

from dataclasses import dataclass, field

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

    def window(self, config: SamplerConfig) -> tuple[int, bool]:
        """Which window its cached passes run: equal in rows that can share them.

        The first number is the block, counted from where the window begins: with a dual cache that
        is the first of the blocks that share a full pass; else the canvas's start, since windows
        that reach to its end are as long in rows at the same block alone. Of those blocks, all but
        the first also renew the block before in their first step.
        """
        block = self.block % config.cache_blocks if config.cache == "dual" else self.block
        return block, self.step > 0

    def advance(self, config: SamplerConfig, quotas: list[list[int]]) -> bool:
        """Go to the next step that changes something; returns whether that is in another block.

        `quotas` [W + 1][steps per block] are the commits of each step, by the masked positions at
        the start of the block.
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


@dataclass(frozen=True)
class Step:
    """What the host decides about a step of A rows, before it is run.

    Attributes:
        blocks: [A], number of the block that each row is in; with a cache all at the same window.
        rows: [A], the rows of the canvas that take part.
        row_steps: [A], the number of this step for each row, counted over all blocks.
        masked: [A], masked positions of the block in each row.
        commits: [A], by how many positions fewer are masked after the step; None where a parallel
            rule decides.
        refresh: Run whole rows, and renew what a cache keeps of them; always without a cache.
        renews_before: Without `refresh`: run the block before, too, whose last commits the kept
            keys and values do not know yet.
        first: None of the rows has had a pass.
        begin: Column of the canvas that a full pass starts from; what is before it is padding of
            all its rows.
        held: Other rows whose keys and values are kept for a later pass.
    """

    blocks: list[int]
    rows: list[int]
    row_steps: list[int]
    masked: list[int]
    commits: list[int] | None = None
    refresh: bool = True
    renews_before: bool = False
    first: bool = False
    begin: int = 0
    held: list[int] = field(default_factory=list)
