"""Signs of life within a step: the parts of a run tell, a progress bar shows.

Told on the host alone: nothing is read from the device, and nothing waits for it.
"""

import time
from collections.abc import Callable

_EVERY = 0.5  # seconds between two showings of the same part


class Signs:
    """What a run is doing right now; handed to the parts of a step.

    Attributes:
        part: For people: sampling, inpainting, grading, scoring, update 2 of 4, evaluation.
        done: Units of it that are done.
        expected: Units that it has, as far as is known; 0 where that is not counted.
        unit: Of `done` and `expected`: passes or micro-batches.
        tokens: Generated or trained on since the part began.
        note: What else there is to say of it.
        listener: Given the text at the beginning of each part, and every half second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.listener: Callable[[str], None] | None = None
        self.part, self.unit, self.note = "", "", ""
        self.done, self.expected, self.tokens = 0, 0, 0.0
        self._began = self._shown = clock()

    def begin(self, part: str, expected: int = 0, unit: str = "passes", note: str = "") -> None:
        """A part begins."""
        self.part, self.expected, self.unit, self.note = part, expected, unit, note
        self.done, self.tokens, self._began = 0, 0.0, self.clock()
        self._show()

    def expect(self, more: int) -> None:
        """So many units more are to come."""
        self.expected += more

    def advance(self, tokens: float = 0.0) -> None:
        """One unit is done, or given to the device."""
        self.done += 1
        self.tokens += tokens
        if self.clock() - self._shown >= _EVERY:
            self._show()

    def _show(self) -> None:
        self._shown = self.clock()
        if self.listener is not None:
            self.listener(self.text())

    def text(self) -> str:
        """For example "sampling: 37 of 128 passes, 512 tokens/s"."""
        said = []
        if self.expected:  # a parallel rule takes fewer, ranks in step take more
            said.append(f"{self.done} of {max(self.done, self.expected)} {self.unit}")
        spent = self.clock() - self._began
        if self.tokens and spent > 0:
            speed = self.tokens / spent  # of 8B on a CPU below one
            said.append(f"{speed:,.0f} tokens/s" if speed >= 10 else f"{speed:.2g} tokens/s")
        said += [self.note] if self.note else []
        return f"{self.part}: {', '.join(said)}" if said else self.part
