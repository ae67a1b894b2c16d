"""What befalls environments of the host: counted, warned of, and too much of it ends the run."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections import deque

import numpy as np

from stacx.config import Config
from stacx.errors import BrokenEnvironmentError, TrainingWarning


class Supervision:
    """Seeds for batches of environments, and a count of those that had to be restarted.

    Any thread may ask; warnings are given by the learner's.

    Args:
        config: of the run.
        first_environment: of this host, among those of all.
    """

    def __init__(self, config: Config, first_environment: int = 0):
        self._config = config
        self._first_environment = first_environment
        self._lock = threading.Lock()
        self._restarts = self._said = 0
        self._warnings: deque[tuple[str, bool]] = deque()
        self._generations = [itertools.count() for _ in range(config.num_actors)]
        self.first_update = 0
        """Updates before this part of the run."""

    @property
    def restarts(self) -> int:
        """Those that were warned of: what comes after a signal to stop is no fault."""
        return self._said

    @restarts.setter
    def restarts(self, count: int) -> None:
        self._restarts = self._said = count

    @property
    def has_warnings(self) -> bool:
        """Whether there is something to warn of."""
        return bool(self._warnings)

    def next_seed(self, actor: int) -> int:
        """So that a new batch sees other episodes than those before, also after a resume.

        It does not depend on what other threads do at the time.
        """
        place = (self._config.seed, self.first_update, actor, next(self._generations[actor]))
        first_of_all = int(np.random.SeedSequence(place).generate_state(1)[0] >> 2)
        return first_of_all + self._first_environment

    def count_restart(self, reason: str, details: str) -> None:
        """Counts a restart; raises `BrokenEnvironmentError` if there were too many."""
        with self._lock:
            self._restarts += 1
            restarts = self._restarts
        most = self._config.max_env_restarts
        if restarts > most:
            raise BrokenEnvironmentError(
                f"{reason}; that is one more than --max-env-restarts {most}: mend the environment",
                details,
            )
        message = f"{reason}; its batch is restarted ({restarts} of at most {most} times)"
        self._warnings.append((message, True))

    def warn(self, message: str) -> None:
        """Has the learner's thread warn of something that is no restart."""
        self._warnings.append((message, False))

    def give_warnings(self) -> None:
        """Warns of what has happened since the last time."""
        while self._warnings:
            message, is_restart = self._warnings.popleft()
            self._said += is_restart
            warnings.warn(message, TrainingWarning, stacklevel=2)
