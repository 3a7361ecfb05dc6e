"""Which ranks are alive: a collective call that fails does not say who is missing."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import torch.distributed as dist

from igpo_lightning.distributed.ranks import rank, world_size


class Pulse:
    """Tells the other ranks, from a thread, that this one is alive, and asks which are not.

    The thread has a connection of its own to the ranks' store, which works when collective calls
    no longer do.

    Torch's own means do not name a lost rank. A failed collective call reports at most a network
    address. `monitored_barrier` exists for gloo alone and needs the connections that have just
    failed: it raises at once, without a rank or with the wrong one (`tests/distributed/
    test_pulse.py`). NCCL's watchdog ends the process when a call times out, and its message holds
    the number of the rank that waited, not of the one that is missing.
    """

    BEAT = 1.0  # seconds between signs of life
    PATIENCE = 10.0  # seconds without one, after which a rank is lost
    _ENDED = b"ended"
    _TOLD = "igpo_lightning/told"

    def __init__(
        self,
        told: Callable[[], bool] = lambda: False,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread.

        Args:
            told: Whether this rank knows that the run is to end.
            tell: Called, from the thread, once another rank knows: a signal may reach one alone.

        Raises:
            RuntimeError: There is no process group, or its store cannot be reached.
        """
        self._store = dist.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=self.PATIENCE),
        )
        self._others = [other for other in range(world_size()) if other != rank()]
        self._own, self._told, self._tell = self._name(rank()), told, tell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    @staticmethod
    def _name(other: int) -> str:
        return f"igpo_lightning/pulse/{other}"

    def _beat(self) -> None:
        count = 0
        # Without its store a rank ends by the collective call that fails, not by this thread.
        with suppress(RuntimeError):
            while not self._stop.wait(self.BEAT):
                count += 1
                self._store.set(self._own, str(count))
                if self._told():
                    self._store.set(self._TOLD, self._TOLD)
                elif self._store.check([self._TOLD]):
                    self._tell()

    def stop(self) -> None:
        """Give no more signs of life; a rank that ends first may take the store with it."""
        self._stop.set()
        self._thread.join()

    def end(self) -> None:
        """Say that this rank ends by itself, for a reason that it has told."""
        self.stop()
        with suppress(RuntimeError):
            self._store.set(self._own, self._ENDED.decode())

    def _seen(self) -> dict[int, bytes | None]:
        """The last sign of every other rank."""
        return {
            other: self._store.get(self._name(other))
            if self._store.check([self._name(other)])
            else None
            for other in self._others
        }

    def silent(self) -> dict[int, bool]:
        """Ranks that are gone, in order: True for those that said so before.

        Takes `PATIENCE` where one gives no sign of life. Where the store itself is gone, so is the
        rank that keeps it, the first one.
        """
        try:
            first = self._seen()
            waiting = set(self._others)
            deadline = time.monotonic() + self.PATIENCE
            while waiting and time.monotonic() < deadline:
                time.sleep(self.BEAT / 2)
                now = self._seen()
                waiting = {r for r in waiting if now[r] in (first[r], self._ENDED)}
                if all(now[r] == self._ENDED for r in waiting):
                    break
            return {r: now[r] == self._ENDED for r in sorted(waiting)}
        except RuntimeError:
            return {0: False}

    def wait_for_others(self, gone: set[int]) -> None:
        """Keep the store, where this rank has it, until all but those that are gone asked it."""
        deadline = time.monotonic() + self.PATIENCE
        with suppress(RuntimeError):
            while time.monotonic() < deadline:
                signs = self._seen()
                if all(signs[r] == self._ENDED for r in self._others if r not in gone):
                    return
                time.sleep(self.BEAT / 2)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error comes from ranks that cannot reach each other."""
    names = ("gloo", "nccl", "connection reset", "connection closed", "broken pipe")
    known = isinstance(error, RuntimeError) and any(n in str(error).lower() for n in names)
    return known or isinstance(error, dist.DistError)
