"""What the machine has for runs side by side, and what each child process may use of it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_PROBE = (
    "import jax, json; "
    "print(json.dumps([jax.default_backend(), [d.device_kind for d in jax.local_devices()]]))"
)
PACKAGES = (
    *("stacx", "jax", "jaxlib", "equinox", "optax", "numpy", "gymnax", "gymnasium", "rliable"),
    *("ale-py", "dm_control", "envpool", "mujoco"),
)
"""Those whose versions matter for a result."""
_CPU_INFO, _CPU_TIMES = Path("/proc/cpuinfo"), Path("/proc/stat")
_SECONDS = 120.0
"""How long the devices may take to answer."""
_GPUS = ("gpu", "cuda", "rocm")


class Machine(NamedTuple):
    """What JAX computes on, and how many cores there are."""

    platform: str
    """cpu, gpu, tpu."""
    devices: tuple[str, ...]
    """Their kinds."""
    cores: int

    @property
    def jobs(self) -> int:
        """How many runs at once by default: one a core, or one a GPU; other devices are shared."""
        if self.platform == "cpu":
            return self.cores
        return len(self.devices) if self.platform in _GPUS else 1

    def environment(self, slot: int, jobs: int) -> dict[str, str]:
        """Environment variables of the child in a slot, from 0 to `jobs` - 1.

        On GPUs each has one of the devices. On a CPU, XLA has one thread, unless the user has set
        `NPROC`. (With jaxlib 0.10 the flags `xla_cpu_multi_thread_eigen=false` and
        `intra_op_parallelism_threads=1` leave as many threads at work as without them.)
        """
        variables = dict(os.environ)
        if self.platform in _GPUS:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            names = visible.split(",") if visible else list(map(str, range(len(self.devices))))
            variables["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
            sharing = -(-jobs // len(names))
            if sharing > 1:
                variables.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 / sharing:.2f}")
        elif jobs > 1:
            variables.setdefault("NPROC", "1")
        return variables


def find_machine() -> Machine:
    """Asks JAX in another process: one that has seen a GPU keeps its memory."""
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            check=True,
            timeout=_SECONDS,
        )
        platform, kinds = json.loads(answer.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError):
        platform, kinds = "cpu", ["cpu"]  # the first run will say what is wrong
    return Machine(platform, tuple(kinds), usable_cores())


class OthersUse:
    """How many cores are busy with anything but this process's children, from now on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy = _busy_seconds()
        self._own = _own_seconds()

    def cores(self) -> float | None:
        """On average since then, children counted as they end; None where it cannot be told."""
        busy = _busy_seconds()
        if busy is None or self._busy is None:
            return None
        others = busy - self._busy - (_own_seconds() - self._own)
        return max(0.0, others) / max(time.monotonic() - self._began, 1e-3)


def _busy_seconds() -> float | None:
    """Seconds that all cores together were busy since the machine has started, on Linux."""
    try:
        fields = _CPU_TIMES.read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _, _, *interrupts = map(int, fields[:8])
        return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def usable_cores() -> int:
    """Of those of the machine, what this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def circumstances(machine: Machine) -> str:
    """What a result was made on: processor, accelerators, Python and versions of packages."""
    cores = f"{machine.cores} usable core{'s' * (machine.cores != 1)}"
    accelerators = "no accelerator"
    if machine.platform != "cpu":
        accelerators = f"{len(machine.devices)} x {machine.devices[0]} ({machine.platform})"
    versions = ", ".join(f"{name} {version}" for name, version in versions_of(PACKAGES))
    return (
        f"{cpu_model()}, {cores}, {accelerators}; Python {platform.python_version()} on "
        f"{platform.platform()}; {versions}"
    )


def versions_of(packages: Iterable[str]) -> list[tuple[str, str]]:
    """The installed ones of some packages, with their versions."""
    found = []
    for name in packages:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """As Linux has it, or else as Python says."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
