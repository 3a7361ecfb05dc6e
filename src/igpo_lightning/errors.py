"""The exceptions for mistakes a user can mend, and for a run that had to stop."""


class ConfigError(ValueError):
    """A setting, file or environment that the user must change.

    The command line shows its text without a traceback. The text names what was given
    (key and value), what is allowed, and what to do. Anything else that is raised is a bug.
    """


class RunError(Exception):
    """The world outside made going on impossible: a full disk, a signal, a diverged model.

    The command line shows its text without a traceback and exits with `status`. The text says what
    happened, what is kept, and what to do.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
