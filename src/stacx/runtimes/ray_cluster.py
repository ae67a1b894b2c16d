"""The Ray cluster that remote actors are placed on: joined, or started on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import warnings
from typing import Any

from stacx.config import Config
from stacx.environments import code_of
from stacx.errors import ConfigError
from stacx.imports import one_line
from stacx.runtimes.hosts import ending_after

LOCAL = "local"
_REACHING = 10.0
"""Seconds in which the head of a cluster must take a connection."""
_CONNECTING = 60.0
"""Seconds in which Ray must have connected, or started, which takes some."""
_OF_ONE_THREAD = {"JAX_PLATFORMS": "cpu", "NPROC": "1"}
"""Actors infer on their CPU, and in one thread: there are as many of them as there are cores."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody was asked
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; else it warns
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Makes Ray's processes listen on the loopback address alone, on Linux as on other systems."""

_NOT_CODE = ("/runs/", "/.git/", "/.venv/", "__pycache__/")
"""What is not sent along with a user's working directory, as in a .gitignore."""


class RayCluster:
    """A connection to a Ray cluster, for the time of a run.

    Without an address, a cluster of this machine's own is started, and ended with the run; its
    processes listen on the loopback address only, and it has no dashboard. Where this process is
    connected to Ray already, that connection is used, and left.

    Raises:
        ConfigError: if Ray is not installed, there is no cluster at the address, or it has not
            enough CPUs for the actors.
    """

    def __init__(self, config: Config):
        try:
            import ray
        except ImportError as error:
            raise ConfigError(
                f"--actors ray needs Ray ({error}): pip install '.[ray]' in stacx's project "
                "directory"
            ) from error
        self.ray: Any = ray
        address = config.ray_address or os.environ.get("RAY_ADDRESS") or LOCAL
        environment = _runtime_environment(config, ship_code=address != LOCAL)
        self._connected = not ray.is_initialized()
        self.actor_options: dict[str, Any] = {}
        """What each actor is made with, beside its CPUs."""
        if self._connected:
            _connect(ray, address, environment)
        else:
            self.actor_options["runtime_env"] = environment
        try:
            self._require_room(config)
        except BaseException:
            self.close()
            raise

    def cpus(self) -> float:
        """All CPUs of the cluster."""
        return float(self.ray.cluster_resources().get("CPU", 0.0))

    def store_bytes(self) -> int:
        """Bytes of the cluster's object stores that are in use, by whomever."""
        name = "object_store_memory"
        whole, free = self.ray.cluster_resources(), self.ray.available_resources()
        return int(whole.get(name, 0.0) - free.get(name, 0.0))

    def close(self) -> None:
        """Leaves the cluster; one that was started ends."""
        if self._connected:
            self._connected = False
            self.ray.shutdown()

    def _require_room(self, config: Config) -> None:
        count = config.min_actors or config.num_actors
        cpus, there_are = config.actor_cpus, self.cpus()
        if count * cpus > there_are + 1e-6:
            fitting = int(there_are / cpus + 1e-6)
            ways = [f"--num-actors {fitting}"] if fitting else []
            if fitting and not config.min_actors:
                ways.append(f"--min-actors {fitting} to begin with fewer")
            ways += ["fewer --actor-cpus", "a larger cluster"]
            raise ConfigError(
                f"{count} actors of {cpus:g} CPUs each (--actor-cpus) find no place on a cluster "
                f"of {there_are:g} CPUs: use {', '.join(ways[:-1])} or {ways[-1]}"
            )


def _connect(ray: Any, address: str, environment: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {}
    settings = dict(_QUIET)
    if address == LOCAL:
        settings |= _LOOPBACK
        arguments["include_dashboard"] = False
    elif address != "auto":
        _require_listener(address)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    silence = f"cannot use Ray at {address}: no answer for {_CONNECTING:g} s; is that its head?"
    try:
        with ending_after(_CONNECTING, silence, code=2), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            ray.init(
                address=address,
                runtime_env=environment,
                log_to_driver=False,
                logging_level="ERROR",
                **arguments,
            )
    except (Exception, SystemExit) as error:
        ray.shutdown()
        raise ConfigError(f"cannot use Ray at {address}: {one_line(error)}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray takes SIGTERM
                signal.signal(number, handler)


def _require_listener(address: str) -> None:
    """Whether anything listens there; Ray would try for minutes, and then end the process."""
    name, _, port = address.rpartition(":")
    if not name or not port.isdigit() or "//" in name:
        raise ConfigError(
            f"--ray-address {address!r} is not HOST:PORT of the head of a cluster, such as "
            "10.0.0.1:6379, nor auto"
        )
    try:
        socket.create_connection((name.strip("[]"), int(port)), _REACHING).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}): is --ray-address right, and the "
            "cluster up (ray status)?"
        ) from error


def _runtime_environment(config: Config, *, ship_code: bool) -> dict[str, Any]:
    """Ray's runtime environment of the actors: what the user gives, and what they need."""
    given = json.loads(config.ray_env)
    code = code_of(config.env) or ":" in config.torso
    if ship_code and code and not {"working_dir", "py_modules"} & set(given):
        given = given | {"working_dir": os.getcwd(), "excludes": list(_NOT_CODE)}
    return given | {"env_vars": _OF_ONE_THREAD | given.get("env_vars", {})}
