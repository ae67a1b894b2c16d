"""TensorBoard events: every number of a line of metrics, a folder per seed.

Written at once and in this thread: tensorboardX's own writer has a thread that a full disk kills,
and then waits for it for ever.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_NOT_CURVES = {"env_steps", "updates", "seed"}


class EventWriters:
    """Writers that open with their seed's first line.

    Args:
        directory: where the folders go.
        updates: of the run so far; events after them, of a run killed later, are hidden.
    """

    def __init__(self, directory: Path, updates: int = 0):
        self._directory = directory
        self._resumed = updates > 0
        self._writers: dict[int, Any] = {}

    def __enter__(self) -> EventWriters:
        return self

    def __exit__(self, *exception: object) -> None:
        for writer in self._writers.values():
            with contextlib.suppress(OSError):  # `write` has brought to the disk what it could
                writer.close()

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """One line per seed, over environment steps."""
        for line in lines:
            values = [
                {"tag": key, "simple_value": value}
                for key, value in line.items()
                if key not in _NOT_CURVES and value is not None
            ]
            writer = self._writer(line["seed"], line["env_steps"])
            _write(writer, step=line["env_steps"], summary={"value": values})
            writer.flush()

    def _writer(self, seed: int, env_steps: int) -> Any:
        if seed not in self._writers:
            self._writers[seed] = _open(self._directory / f"seed_{seed}")
            if self._resumed:
                start = {"status": "START"}
                _write(self._writers[seed], step=env_steps, session_log=start)
        return self._writers[seed]


def _open(folder: Path) -> Any:
    """A new file of events; TensorBoard reads those of a folder in the order of their names."""
    from tensorboardX.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
    writer = RecordWriter(str(folder / name))
    _write(writer, file_version="brain.Event:2")
    return writer


def _write(writer: Any, **fields: Any) -> None:
    from tensorboardX.proto.event_pb2 import Event

    writer.write(Event(wall_time=time.time(), **fields).SerializeToString())
