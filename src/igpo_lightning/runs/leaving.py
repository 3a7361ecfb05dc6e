"""Leaving what is under way before its end: a signal need not wait for a step of many minutes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from igpo_lightning import distributed
from igpo_lightning.distributed import Lockstep


class LeftError(BaseException):
    """A signal ends what was under way; no `except Exception` of a library may swallow it."""


class Leave:
    """Asked between two denoising passes and two micro-batches: whether to leave here.

    All ranks leave in the same place, so that they can save together afterwards.

    Attributes:
        GRACE: Seconds in which a step may still come to its end.
        deadline: When this rank leaves; None until it is told to.
    """

    GRACE = 5.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.deadline: float | None = None

    def tell(self) -> None:
        """Leave once the grace is over."""
        if self.deadline is None:
            self.deadline = self.clock() + self.GRACE

    def told(self) -> bool:
        """Whether this rank knows that the run is to end."""
        return self.deadline is not None

    def is_due(self) -> bool:
        """Whether this rank would leave now."""
        return self.deadline is not None and self.clock() >= self.deadline

    def alone(self) -> None:
        """Leave, where no other rank makes the same pass; they are met in `meeting`.

        Raises:
            LeftError: It is time.
        """
        if self.is_due():
            raise LeftError

    def together(self) -> None:
        """Leave, if any rank would; every rank must ask equally often.

        Raises:
            LeftError: On every rank.
        """
        if distributed.any_rank(self.is_due()):
            raise LeftError

    def between_passes(self, ranks: Lockstep) -> Lockstep:
        """The ranks of a model, which may leave ahead of each pass."""

        def anyone(works: bool) -> bool:
            if ranks.shared:
                self.together()
            else:
                self.alone()
            return ranks.anyone(works)

        return replace(ranks, anyone=anyone)

    @contextmanager
    def meeting(self, apart: bool) -> Iterator[None]:
        """All ranks leave at its end where one has left within it.

        Args:
            apart: Whether ranks made passes of their own; if not, they have left together.

        Raises:
            LeftError: On every rank.
        """
        left = False
        try:
            yield
        except LeftError:
            if not apart:
                raise
            left = True
        if apart and distributed.any_rank(left):
            raise LeftError
