"""The exceptions for mistakes a user can mend, and for a run that had to stop."""

import traceback
from collections.abc import Callable
from typing import Any


class ConfigError(ValueError):
    """A setting, file or environment that the user must change.

    The command line shows its text without a traceback. The text names what was given
    (key and value), what is allowed, and what to do. Anything else that is raised is a bug.
    """


OWN_MODULES = "igpo_plugin:"  # begins the names of modules that are plugins


def call_own(function: Callable[..., Any], expected: str, *arguments: Any) -> Any:
    """Call a function that may be a plugin's: what it raises is the user's to mend.

    Args:
        function: Of this package, whose exceptions are bugs of ours, or of a plugin.
        expected: How it is called and what it gives, for the message.

    Raises:
        ConfigError: A plugin's function raised; names file, line and function.
    """
    if not str(getattr(function, "__module__", "")).startswith(OWN_MODULES):
        return function(*arguments)
    try:
        return function(*arguments)
    except ConfigError:
        raise
    except Exception as error:
        file = function.__module__.removeprefix(OWN_MODULES)
        raise ConfigError(
            f"{error_place(file, error)}: {function.__name__} raised {type(error).__name__}: "
            f"{error}; expected {expected}"
        ) from error


def error_place(file: str, error: BaseException) -> str:
    """The line of a file in which an exception arose: the innermost of the call."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return f"{file}, line {lines[-1]}" if lines else file


def root_cause(error: BaseException) -> BaseException:
    """The exception from which a chain of them arose."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def first_line(error: object) -> str:
    """What an exception says, in one line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_panic(error: BaseException) -> bool:
    """Whether a library in Rust gave up; its exception stands beside Exception."""
    return type(error).__name__ == "PanicException"


class PastHydra(BaseException):
    """Carries an error past Hydra, which heads it with the overrides, or in a callback swallows it.

    Attributes:
        error: What was raised.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class RunError(Exception):
    """The world outside made going on impossible: a full disk, a signal, a diverged model.

    The command line shows its text without a traceback and exits with `status`. The text says what
    happened, what is kept, and what to do.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
