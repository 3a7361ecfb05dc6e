"""Graders that do what sympy does on a bad day; the answer says which."""

import os
import signal
import time
from pathlib import Path


def grade(gold: str, answer: str) -> bool:
    """Right where the answer is the gold one; else what the answer's first word says."""
    command, *words = answer.split()
    if words and words[-1].startswith("/"):  # a log of what was graded, one line each time
        with Path(words[-1]).open("a") as log:
            log.write("graded\n")
    if command == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif command == "die-once":
        if Path(words[-1]).read_text().count("graded") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    elif command == "exit":
        os._exit(0)
    elif command == "raise":
        raise RecursionError("too deep")
    elif command == "hang":
        # One call into C that never returns to the interpreter.
        pow(7, 10**9)
    elif command == "overrun":
        os.kill(os.getpid(), signal.SIGPROF)  # as the kernel's timer of processor time does
    elif command == "sleep":
        time.sleep(60)
    elif command == "fill":
        bytearray(4 * 1024**3)
    elif command == "print":
        print("noise" * 100_000)
    elif command == "slow":
        time.sleep(0.2)
    return gold == answer
