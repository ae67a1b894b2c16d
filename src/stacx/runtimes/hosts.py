"""Several processes that train one run together, on JAX's distributed runtime (section 8).

A host is one of them, with its own devices; it runs the same programs as the others, over the
devices of all. Beyond that is only what is here: what hosts have to tell each other between two
programs, and that none waits for ever for one that is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Int

from stacx.errors import ConfigError, LostHostError, StacxError
from stacx.runtimes.arrays import Arrays

PATIENCE = 120.0
"""Seconds that a host waits for the others, by default."""
COMPILATION = 600.0
"""Seconds that a host may need more than another to compile a program, which is kept on some."""
_GRACE = 30
"""Seconds after which JAX ends a process by itself, if this module could not."""
_LOST = re.compile(
    "gloo|nccl|coordination|heartbeat|connection (reset|closed|refused)|socket closed", re.I
)
"""What JAX says of a program whose other half is gone."""


def join(
    count: int | Literal["auto"],
    index: int | None = None,
    coordinator: str | None = None,
    *,
    patience: float = PATIENCE,
) -> None:
    """Makes this process one of the hosts of a run, before JAX is used for anything else.

    Args:
        count: of hosts; "auto": JAX asks SLURM, Open MPI, Kubernetes or the TPU's metadata.
        index: of this host, from 0; unless "auto".
        coordinator: HOST:PORT of host 0, where the others find it; unless "auto". On a loopback
            address nobody from outside can reach it.
        patience: seconds to wait for the others, now and later.

    Raises:
        ConfigError: if this cannot be. A coordinator or host that does not come in time ends the
            process, since JAX would, too, and says less.
    """
    _watch().patience = patience
    known: dict[str, Any] = {}
    if count == "auto":
        if index is not None or coordinator is not None:
            raise ConfigError("--hosts auto finds --host-index and --coordinator itself")
        missing = "JAX found no other hosts in time; are all of them started?"
    else:
        known = _checked(count, index, coordinator)
        missing = (
            f"not all of the {count} hosts have started"
            if index == 0
            else f"no answer from {coordinator}: is --coordinator right, and host 0 started?"
        )
    answer_aborts()
    try:
        with _watch().waiting(patience, f"{missing} (waited for {patience:g} s)", code=2):
            jax.distributed.initialize(
                **known,
                initialization_timeout=int(patience) + _GRACE,
                heartbeat_timeout_seconds=int(patience) + _GRACE,
            )
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(f"cannot join the hosts of the run: {reason}") from error


def _checked(count: int, index: int | None, coordinator: str | None) -> dict[str, Any]:
    """The arguments of JAX's function."""
    if count < 1:
        raise ConfigError(f"--hosts {count} must be at least 1, or auto")
    if index is not None and not 0 <= index < count:
        raise ConfigError(f"--host-index {index} is not one of 0 to {count - 1} (--hosts {count})")
    if index is None or coordinator is None:
        raise ConfigError(f"--hosts {count} needs --host-index and --coordinator")
    name, _, port = coordinator.rpartition(":")
    if not name or not port.isdigit():
        raise ConfigError(f"--coordinator {coordinator!r} is not HOST:PORT, such as 10.0.0.1:1234")
    try:
        addresses = socket.getaddrinfo(name.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--coordinator {coordinator}: {name} is not a known host") from error
    own = {}
    family, _, _, _, address = addresses[0]
    if index == 0:
        _require_free(family, int(port))
        if str(address[0]).startswith("127.") or address[0] == "::1":
            own = {"coordinator_bind_address": coordinator}
    given = {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
    return given | own


def _require_free(family: socket.AddressFamily, port: int) -> None:
    """Whether host 0 can listen there; JAX would crash."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ConfigError(
                f"host 0 cannot listen on port {port} ({error.strerror}): choose another for "
                "--coordinator, on all hosts"
            ) from error


def own_part(batch: int) -> range:
    """Which environments of a batch are this host's.

    Raises:
        ConfigError: if hosts cannot have as many each.
    """
    count, index = jax.process_count(), jax.process_index()
    if batch % count:
        raise ConfigError(f"--num-envs {batch} does not divide over {count} hosts: change it")
    return range(index * batch // count, (index + 1) * batch // count)


def exchange(numbers: Sequence[int], work: float = 0.0) -> Int[np.ndarray, "hosts numbers"]:
    """The numbers of all hosts, a row each; every host calls this, and waits for the others.

    Args:
        numbers: as many on each host, within 32 bits.
        work: seconds that others may still need before they come here.

    Raises:
        LostHostError: if one of them is gone.
    """
    shape = jax.process_count(), len(numbers)
    if not numbers:  # JAX has nothing to gather
        return np.zeros(shape, np.int32)
    with together(work):
        gathered = multihost_utils.process_allgather(np.array(numbers, np.int32))
        return np.asarray(gathered).reshape(shape)


def texts(own: str) -> list[str]:
    """The texts of all hosts, in their order.

    Raises:
        LostHostError: if one of them is gone.
    """
    content = own.encode()
    lengths = exchange([len(content)])[:, 0]
    padded = np.frombuffer(content.ljust(int(lengths.max()), b"\0"), np.uint8)
    with together():
        rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Around what each host does by itself before they begin: if one fails, all of them end.

    Raises:
        StacxError: if another host failed.
        LostHostError: if one of them is gone.
    """
    if jax.process_count() == 1:
        yield
        return
    try:
        yield
    except Exception:
        exchange([1], COMPILATION)
        part()
        raise
    failed = np.flatnonzero(exchange([0], COMPILATION))
    if failed.size:
        part()
        raise StacxError(f"host {failed[0]} cannot begin: its own messages say why")


def part() -> None:
    """From now on hosts do nothing together: that another ends is no reason to end."""
    _watch().parted = True


class _Packed(NamedTuple):
    """Arrays as a heading and their bytes."""

    heading: str
    content: np.ndarray


def share(arrays: Arrays | None) -> Arrays:
    """Host 0's arrays, on every host, bit for bit; None elsewhere.

    Raises:
        LostHostError: if one of the hosts is gone.
    """
    packed = _pack(arrays or {})
    heading = json.loads(texts(packed.heading)[0])
    sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for _, dtype, shape in heading]
    content = packed.content if arrays else np.zeros(sum(sizes), np.uint8)
    with together():
        content = np.asarray(multihost_utils.broadcast_one_to_all(content))
    parts = np.split(content, np.cumsum(sizes)[:-1])
    return {
        name: part.view(dtype).reshape(shape)
        for (name, dtype, shape), part in zip(heading, parts, strict=True)
    }


def _pack(arrays: Arrays) -> _Packed:
    heading = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    contents = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays.values()]
    return _Packed(json.dumps(heading), np.concatenate([np.empty(0, np.uint8), *contents]))


def answer_aborts() -> None:
    """Lets the process end with a line where JAX aborts it.

    JAX does so in a thread of its own, in C++, as soon as host 0 is gone, and takes no function to
    be called instead (its `missed_heartbeat_callback` cannot be called from there).
    """

    def on_abort(signum: int) -> None:
        del signum
        if _watch().parted:  # the main thread is about to end, and knows why
            time.sleep(_GRACE)
        _end(f"JAX has ended this host, most likely since another one is gone: {_GO_ON}", 1)

    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    handler = kind(on_abort)
    _kept.append(handler)  # or it is freed
    library = ctypes.CDLL(None)
    library.signal.argtypes = ctypes.c_int, kind
    library.signal(signal.SIGABRT, handler)


_kept: list[Any] = []


def _end(message: str, code: int) -> None:
    """Ends the process at once: another thread is in a program that nothing interrupts."""
    with contextlib.suppress(OSError, ValueError):  # nobody may be there to read it
        print(f"stacx: {message}", file=sys.stderr, flush=True)
    os._exit(code)


@contextlib.contextmanager
def together(work: float = 0.0) -> Iterator[None]:
    """Around what all hosts do together, and each may take `work` seconds for by itself.

    A host that then is not heard of any more ends this process.

    Raises:
        LostHostError: if a connection tells that a host is gone.
    """
    if jax.process_count() == 1:
        yield
        return
    watch = _watch()
    seconds = watch.patience + work
    message = (
        f"another host has not answered for {seconds:g} s (--host-timeout {watch.patience:g}): "
        f"{_GO_ON}"
    )
    with watch.waiting(seconds, message), noticing_lost_hosts():
        yield


@contextlib.contextmanager
def noticing_lost_hosts() -> Iterator[None]:
    """Around programs of all hosts.

    Raises:
        LostHostError: if the program fails since a host is gone.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if jax.process_count() > 1 and _LOST.search(str(error)):
            raise LostHostError(f"another host is gone, or cannot be reached: {_GO_ON}") from error
        raise


_GO_ON = (
    "its own messages say why; when that is mended, start all hosts again with --resume, and the "
    "run goes on from its last checkpoint"
)


class _Watch:
    """A thread that ends the process if it waits too long."""

    def __init__(self) -> None:
        self.patience = PATIENCE
        self.parted = False
        self._end: tuple[float, str, int] | None = None
        threading.Thread(target=self._look, name="stacx-hosts", daemon=True).start()

    @contextlib.contextmanager
    def waiting(self, seconds: float, message: str, *, code: int = 1) -> Iterator[None]:
        """Around a call that waits; one at a time."""
        self._end = time.monotonic() + seconds, message, code
        try:
            yield
        finally:
            self._end = None

    def _look(self) -> None:
        while True:
            time.sleep(0.2)
            end = self._end
            if end is not None and time.monotonic() > end[0]:
                _end(*end[1:])


def ending_after(
    seconds: float, message: str, *, code: int = 1
) -> contextlib.AbstractContextManager[None]:
    """Around a call of a library that nothing can interrupt: after so long, the process ends."""
    return _watch().waiting(seconds, message, code=code)


@functools.cache
def _watch() -> _Watch:
    return _Watch()
