"""The errors and warnings a user of stacx can meet: one line each, that says what to do."""


class StacxError(Exception):
    """Something failed while running; the command line exits with code 1."""


class ConfigError(StacxError, ValueError):
    """An argument or a setting is wrong, and nothing was done; exit code 2."""


class BrokenEnvironmentError(StacxError):
    """An environment raised, did not answer, or returned what no environment may return.

    Attributes:
        details: the environment's traceback, or where it hangs; empty if there is none to show.
    """

    def __init__(self, message: object, details: str = ""):
        super().__init__(message)
        self.details = details


class DivergenceError(StacxError):
    """Too many updates in a row had a gradient that was not finite."""


class LostHostError(StacxError):
    """Another process of a run on several hosts has failed, or cannot be reached any more."""


class CheckpointError(StacxError):
    """A checkpoint could not be written or read."""


class Interrupted(StacxError):  # noqa: N818  (nobody's error)
    """A signal ended the run, after a checkpoint; exit code 128 + signal."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


class TrainingWarning(UserWarning):
    """A run goes on, but something about it is worth a look."""
