"""The one exception for mistakes a user can mend."""


class ConfigError(Exception):
    """A setting, file or environment that the user must change.

    The command line shows its text without a traceback. The text names what was given
    (key and value), what is allowed, and what to do. Anything else that is raised is a bug.
    """
