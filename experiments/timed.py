"""Makes one run with one torch thread and times the whole of it, from first import to export.

    python experiments/timed.py FOLDER OVERRIDE ...

FOLDER is the run's; its seconds.json holds the wall-clock time and the processor time, that of the
graders included. A run that has this file is skipped; one that was interrupted starts anew.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SECONDS_FILE = "seconds.json"


def seconds_of(folder: Path) -> dict[str, float]:
    """What the run of a folder took, by clock: wall | processor."""
    seconds: dict[str, float] = json.loads((folder / SECONDS_FILE).read_text(encoding="utf-8"))
    return seconds


def children_seconds() -> float:
    """Processor time of all processes that this one has waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed_run(folder: Path, overrides: Sequence[str]) -> None:
    """Run the command line, unless it has run, and write what it took."""
    file = folder / SECONDS_FILE
    if file.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "igpo_lightning", *overrides, "trainer.threads=1"]
    wall, processor = time.perf_counter(), children_seconds()
    subprocess.run([*command, f"hydra.run.dir='{folder}'"], check=True)
    seconds = {
        "wall": time.perf_counter() - wall,
        "processor": children_seconds() - processor,
    }
    file.write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    timed_run(Path(sys.argv[1]), sys.argv[2:])
