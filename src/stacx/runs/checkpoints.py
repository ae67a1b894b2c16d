"""Checkpoints of a run: arrays by name, with a checksum, through Orbax.

Nothing else is stored: loading one runs no code of its own and needs no class of ours. Orbax writes
to a temporary folder and renames it, so a kill leaves the checkpoints before whole; the checksum
tells a damaged one.
"""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import re
import shutil
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stacx.errors import CheckpointError
from stacx.runtimes.arrays import Arrays, text_of

_SPARE = 2**20
"""Bytes that a checkpoint may need besides its arrays."""


class CheckpointWarning(UserWarning):
    """A checkpoint was damaged, and an older one is used."""


class Checkpoints:
    """The newest few checkpoints of a run, by number of updates."""

    def __init__(self, directory: Path, *, kept: int = 3):
        self._directory = directory.absolute()
        self._kept = kept

    def save(self, updates: int, arrays: Arrays, metadata: dict[str, Any]) -> None:
        """Writes a checkpoint, and deletes the oldest if there are more than `kept`.

        One of as many updates or more was damaged, and the run went back before it: it goes too.

        Raises:
            CheckpointError: if it cannot be written; the ones before are whole.
        """
        import orbax.checkpoint as ocp

        metadata = metadata | {"checksum": _checksum(arrays, metadata)}
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            _require_space(self._directory, sum(array.nbytes for array in arrays.values()))
            with self._manager(cleanup_tmp_directories=True) as manager:
                for step in manager.all_steps():
                    if step >= updates:
                        manager.delete(step)
                manager.save(
                    updates,
                    args=ocp.args.Composite(
                        arrays=ocp.args.StandardSave(arrays), metadata=ocp.args.JsonSave(metadata)
                    ),
                )
        except Exception as error:
            raise CheckpointError(
                f"cannot write a checkpoint to {self._directory}: {_reason(error)}; "
                "the checkpoints before are whole, and --resume continues from them"
            ) from error

    def steps(self) -> list[int]:
        """Numbers of updates of the complete checkpoints, newest first."""
        if not self._directory.is_dir():
            return []
        with self._manager() as manager:
            return sorted(manager.all_steps(), reverse=True)

    def load_newest(self) -> tuple[int, Arrays, dict[str, Any]]:
        """The newest whole checkpoint: updates, arrays by path, metadata.

        A damaged one is passed over with a warning.

        Raises:
            CheckpointError: if there is none, or none is whole.
        """
        damaged = []
        for updates in self.steps():
            try:
                arrays, metadata = self._load(updates)
            except CheckpointError as error:
                damaged.append(f"{self._directory / str(updates)} is damaged ({error})")
                continue
            if damaged:
                message = f"{'; '.join(damaged)}; using the one before, {updates}"
                warnings.warn(message, CheckpointWarning, stacklevel=2)
            return updates, arrays, metadata
        if damaged:
            raise CheckpointError(f"no checkpoint is whole: {'; '.join(damaged)}")
        raise CheckpointError(f"there is no checkpoint in {self._directory}")

    def _load(self, updates: int) -> tuple[Arrays, dict[str, Any]]:
        _silence_orbax()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of coroutines that Orbax forgets
            try:
                return self._read(updates)
            except Exception as error:
                reason = _reason(error)
        raise CheckpointError(reason)

    def _read(self, updates: int) -> tuple[Arrays, dict[str, Any]]:
        import orbax.checkpoint as ocp

        folder = self._directory / str(updates)
        alone = _alone()
        json_handler = ocp.JsonCheckpointHandler(multiprocessing_options=alone)
        with ocp.Checkpointer(json_handler, multiprocessing_options=alone) as reader:
            metadata = reader.restore(folder / "metadata")
        tree_handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
        with ocp.Checkpointer(tree_handler, multiprocessing_options=alone) as reader:
            names = reader.metadata(folder / "arrays").item_metadata.tree
            as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
            arrays = reader.restore(folder / "arrays", restore_args=as_numpy)
        if metadata.pop("checksum") != _checksum(arrays, metadata):
            raise CheckpointError("its checksum is another")
        return arrays, metadata

    def _manager(self, **options: Any) -> Any:
        import orbax.checkpoint as ocp

        _silence_orbax()
        return ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=self._kept,
                enable_async_checkpointing=False,
                create=False,
                multiprocessing_options=_alone(),
                **options,
            ),
        )


def _alone() -> Any:
    """Orbax's option that this process does not wait for others: host 0 alone has checkpoints."""
    import orbax.checkpoint as ocp

    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index})


@functools.cache
def _silence_orbax() -> None:
    """Keeps what fails to one error, raised.

    Orbax also logs it, and closes an event loop to which its other arrays then fail to report, one
    traceback each, also later.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    show = sys.unraisablehook

    def show_others(unraisable: sys.UnraisableHookArgs) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = show_others


def _require_space(directory: Path, size: int) -> None:
    """Fails before anything is written."""
    if shutil.disk_usage(directory).free < size + _SPARE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _checksum(arrays: Arrays, metadata: dict[str, Any]) -> int:
    checksum = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        checksum = zlib.crc32(f"{name} {text_of(arrays[name])}".encode(), checksum)
        content = np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8)
        checksum = zlib.crc32(content.data, checksum)
    return checksum


def _reason(error: Exception) -> str:
    """The first line of an error; Orbax's and TensorStore's run over many, and hide the cause."""
    full = os.strerror(errno.ENOSPC)
    if full in str(error):
        return full
    text = re.sub(r"\s+", " ", str(error).split("\n")[0]).strip()
    return (text or type(error).__name__)[:200]
