"""The errors a user of stacx can meet: each message is one line that says what to do."""


class StacxError(Exception):
    """Something failed while running; the command line exits with code 1."""


class ConfigError(StacxError, ValueError):
    """An argument or a setting is wrong, and nothing was done; exit code 2."""


class BrokenEnvironmentError(StacxError):
    """An environment raised, or returned what no environment may return."""


class DivergenceError(StacxError):
    """Too many updates in a row had a gradient that was not finite."""


class CheckpointError(StacxError):
    """A checkpoint could not be written or read."""


class Interrupted(StacxError):  # noqa: N818  (nobody's error)
    """A signal ended the run, after a checkpoint; exit code 128 + signal."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum
