"""`python -m igpo_lightning`, and the console script.

Signals are obeyed before anything else is imported: Ctrl-C within an import shows a traceback of
whatever is being imported.
"""

import os
import shlex
import signal
import sys
from types import FrameType


def _stop(number: int, frame: FrameType | None) -> None:
    command = shlex.join(["python", "-m", "igpo_lightning", *sys.argv[1:]])
    name = signal.Signals(number).name
    print(f"error: {name}: stopped before the run began. Start it with: {command}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(128 + number)


def main() -> None:
    """Run the command line; `cli` takes the signals over once it is there."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    from igpo_lightning import cli

    cli.main()


if __name__ == "__main__":
    main()
