"""Graders that do what sympy does on a bad day; the answer says which."""

import os
import signal
import time


def grade(gold: str, answer: str) -> bool:
    """Right where the answer is the gold one; else what the answer's first word says."""
    command = answer.split()[0]
    if command == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif command == "exit":
        os._exit(0)
    elif command == "raise":
        raise RecursionError("too deep")
    elif command == "hang":
        # One call into C that never returns to the interpreter.
        pow(7, 10**9)
    elif command == "sleep":
        time.sleep(60)
    elif command == "fill":
        bytearray(4 * 1024**3)
    elif command == "print":
        print("noise" * 100_000)
    elif command == "slow":
        time.sleep(0.2)
    return gold == answer
