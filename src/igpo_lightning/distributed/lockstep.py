"""Ranks in step: ranks that share a model's weights make every forward pass together."""

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Lockstep:
    """The ranks that a forward pass of a model needs.

    A rank calls `before_pass` ahead of each of its passes, and `finish` after the last one.

    Attributes:
        anyone: Tells every rank whether any of them has work; all ranks ask equally often.
        shared: Whether a pass needs all ranks. If not, a rank takes its own number of passes.
    """

    anyone: Callable[[bool], bool]
    shared: bool = True

    def before_pass(self) -> None:
        """Tell the ranks that wait in `finish` to join the pass that follows."""
        self.anyone(True)

    def watched(self, on_pass: Callable[[], None]) -> "Lockstep":
        """The same ranks, with somebody who is told of each pass that this rank makes."""

        def anyone(works: bool) -> bool:
            if works:
                on_pass()
            return self.anyone(works)

        return replace(self, anyone=anyone)

    def finish(self, empty_pass: Callable[[], None]) -> None:
        """Make empty passes until no rank has work."""
        while self.anyone(False):
            empty_pass()


# A rank that holds the whole model asks nobody.
SOLO = Lockstep(anyone=lambda works: works, shared=False)
