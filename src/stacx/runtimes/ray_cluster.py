"""The Ray cluster that remote actors are placed on: joined, or started on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import warnings
from pathlib import Path
from typing import Any

import jax

from stacx.config import Config
from stacx.environments import code_of
from stacx.errors import ConfigError, Interrupted
from stacx.imports import one_line
from stacx.runtimes import hosts
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
    "RAY_ENABLE_AUTO_CONNECT": "0",  # or a late call would start another cluster
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
        address = config.ray_address or os.environ.get("RAY_ADDRESS") or LOCAL
        environment = _runtime_environment(config, ship_code=address != LOCAL)
        self.ray: Any = _imported()
        self._connected = not self.ray.is_initialized()
        self.actor_options: dict[str, Any] = {}
        """What each actor is made with, beside its CPUs."""
        if self._connected:
            _connect(self.ray, address, environment)
        else:
            self.actor_options["runtime_env"] = environment
        try:
            self._require_room(config, shared=address != LOCAL)
        except BaseException:
            self.close()
            raise

    def room(self, cpus: float) -> int:
        """How many actors of so many CPUs its nodes have room for, if nothing else is there."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return sum(int(node.get("CPU", 0.0) / cpus + 1e-6) for node in nodes)

    def store_bytes(self) -> int:
        """Bytes of the cluster's object stores that are in use, by whomever."""
        name = "object_store_memory"
        whole, free = self.ray.cluster_resources(), self.ray.available_resources()
        return max(int(whole.get(name, 0.0) - free.get(name, 0.0)), 0)

    def close(self) -> None:
        """Leaves the cluster; one that was started ends."""
        if self._connected:
            self._connected = False
            self.ray.shutdown()

    def _require_room(self, config: Config, *, shared: bool) -> None:
        learners = jax.process_count() if shared else 1
        wanted, cpus = config.min_actors or config.num_actors, config.actor_cpus
        room = self.room(cpus) // learners
        if wanted > room:
            ways = [f"--num-actors {room}"] if room else []
            if room and not config.min_actors:
                ways.append(f"--min-actors {room} to begin with fewer")
            ways += ["fewer --actor-cpus", "a larger cluster"]
            of_host = " of each host" if learners > 1 else ""
            raise ConfigError(
                f"{wanted} actors of {cpus:g} CPUs each (--actor-cpus) find no place on a cluster "
                f"with room for {room}{of_host}: use {', '.join(ways[:-1])} or {ways[-1]}"
            )


def _imported() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"--actors ray needs Ray ({error}): pip install '.[ray]' in stacx's project directory"
        ) from error
    return ray


def stay_on_loopback(wanted: bool) -> None:
    """Has what Ray starts or joins from now on be of this machine alone, or of a network.

    Ray reads the variable when it is imported, and so do the processes that it starts.
    """
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = not wanted
    for name, value in _LOOPBACK.items():
        os.environ.pop(name, None)
        if wanted:
            os.environ[name] = value


def _connect(ray: Any, address: str, environment: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {}
    if address == LOCAL:
        arguments["include_dashboard"] = False
    elif address != "auto":
        _require_listener(address)
    stay_on_loopback(address == LOCAL or _is_on_loopback_only(address))
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
        if jax.process_count() > 1:
            hosts.answer_aborts()  # which Ray has taken, too
    except BaseException as error:
        ray.shutdown()
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
            raise Interrupted("stopped by SIGTERM while Ray started", signal.SIGTERM) from None
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ConfigError(
            f"cannot use Ray at {address}: {one_line(error)}{_hint(address)}"
        ) from error
    finally:
        stay_on_loopback(False)  # no other cluster is to inherit it
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray takes SIGTERM
                signal.signal(number, handler)


def _hint(address: str) -> str:
    """The most likely reason why a cluster that answers cannot be joined."""
    has_token = (Path.home() / ".ray" / "auth_token").exists()
    if address == LOCAL or not has_token or os.environ.get("RAY_AUTH_MODE"):
        return ""
    return "; if the cluster asks for a token, set RAY_AUTH_MODE=token (docs/scale.md)"


def _require_listener(address: str) -> None:
    """Whether anything listens there; Ray would try for minutes, and then end the process."""
    name, _, port = address.rpartition(":")
    if not name or not port.isdigit() or "//" in name:
        raise ConfigError(
            f"Ray's address {address!r} is not HOST:PORT of the head of a cluster, such as "
            "10.0.0.1:6379, nor auto (--ray-address, or RAY_ADDRESS)"
        )
    try:
        _knock(name.strip("[]"), int(port))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}): is --ray-address right, and the "
            "cluster up (ray status)?"
        ) from error


def _is_on_loopback_only(address: str) -> bool:
    """Whether a cluster at a loopback address is at no other address of this machine.

    Ray takes 127.0.0.1 for the machine's own address, unless it stays on loopback.
    """
    name, _, port = address.rpartition(":")
    if name not in ("127.0.0.1", "localhost", "[::1]"):
        return False
    from ray.util import get_node_ip_address

    stay_on_loopback(False)  # or that would be the answer
    try:
        _knock(get_node_ip_address(), int(port))
    except OSError:
        return True
    return False


def _knock(host: str, port: int) -> None:
    socket.create_connection((host, port), _REACHING).close()


def _runtime_environment(config: Config, *, ship_code: bool) -> dict[str, Any]:
    """Ray's runtime environment of the actors: what the user gives, and what they need."""
    given = json.loads(config.ray_env)
    code = code_of(config.env) or ":" in config.torso
    if ship_code and code and not {"working_dir", "py_modules"} & set(given):
        given = given | {"working_dir": os.getcwd(), "excludes": list(_NOT_CODE)}
    return given | {"env_vars": _OF_ONE_THREAD | given.get("env_vars", {})}
