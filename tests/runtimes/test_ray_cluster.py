"""What Ray is asked for, and what is refused; without a cluster."""

import os
import signal
import sys
import warnings

import pytest
import ray
from ray._private import ray_constants

from stacx.config import Config
from stacx.errors import ConfigError, Interrupted
from stacx.runtimes import ray_cluster
from stacx.runtimes.ray_cluster import RayCluster

MEMORY = "object_store_memory"


def config_of(**settings):
    return Config(**{"env": "gym:CartPole-v1", "actors": "ray", "num_actors": 2, **settings})


class PlayedConnection:
    """Ray's functions, noted."""

    def __init__(self, monkeypatch, cpus=2.0):
        self.given, self.shut, self.initialised, self.fails = None, 0, False, None
        resources = {"CPU": cpus, MEMORY: 1000.0}
        self.nodes = [{"Alive": True, "Resources": resources}]
        self.loopback = None
        monkeypatch.setattr(ray, "is_initialized", lambda: self.initialised)
        monkeypatch.setattr(ray, "init", self.init)
        monkeypatch.setattr(ray, "shutdown", self.shutdown)
        monkeypatch.setattr(ray, "nodes", lambda: self.nodes)
        monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
        monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
        monkeypatch.setattr(ray, "available_resources", lambda: {MEMORY: 700.0})
        for name in list(os.environ):
            if name.startswith("RAY_"):
                monkeypatch.delenv(name)

    def init(self, **given):
        self.given = given
        inherited = os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0"
        assert inherited == (not ray_constants.ENABLE_RAY_CLUSTER)
        self.loopback = inherited
        signal.signal(signal.SIGTERM, lambda *_: None)
        warnings.warn("os.fork() was called.", RuntimeWarning, stacklevel=1)
        if self.fails:
            raise self.fails

    def shutdown(self):
        self.shut += 1


@pytest.fixture
def connection(monkeypatch):
    played = PlayedConnection(monkeypatch)
    yield played
    for name in list(os.environ):  # those that were set for Ray
        if name.startswith("RAY_"):
            del os.environ[name]


def test_without_an_address_a_cluster_begins_here_that_nobody_else_can_reach(connection):
    handler = signal.getsignal(signal.SIGTERM)
    cluster = RayCluster(config_of())
    assert connection.given["address"] == "local"
    assert connection.given["include_dashboard"] is False
    assert connection.loopback
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert signal.getsignal(signal.SIGTERM) is handler
    assert cluster.actor_options == {}
    assert (cluster.room(1.0), cluster.room(0.3), cluster.store_bytes()) == (2, 6, 300)
    cluster.close(), cluster.close()
    assert connection.shut == 1


@pytest.mark.parametrize(
    ("setting", "variable", "address"),
    [
        ("auto", "", "auto"),
        ("", "auto", "auto"),
        ("auto", "10.0.0.1:6379", "auto"),
        ("", "", "local"),
    ],
)
def test_whose_address_counts(connection, monkeypatch, setting, variable, address):
    monkeypatch.setenv("RAY_ADDRESS", variable)
    RayCluster(config_of(ray_address=setting))
    assert connection.given["address"] == address
    assert ("include_dashboard" in connection.given) == (address == "local")
    assert connection.loopback == (address == "local")


def test_actors_infer_in_one_thread_of_a_cpu_unless_told_otherwise(connection):
    RayCluster(config_of())
    assert connection.given["runtime_env"] == {"env_vars": {"JAX_PLATFORMS": "cpu", "NPROC": "1"}}
    RayCluster(config_of(ray_env='{"pip": ["x"], "env_vars": {"NPROC": "4", "A": "b"}}'))
    assert connection.given["runtime_env"] == {
        "pip": ["x"],
        "env_vars": {"JAX_PLATFORMS": "cpu", "NPROC": "4", "A": "b"},
    }


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"env": "mine:make"}, True),
        ({"env": "gym:mine:Mine-v0"}, True),
        ({"torso": "mine:torso"}, True),
        ({}, False),
        ({"env": "mine:make", "ray_address": ""}, False),  # the same machine
        ({"env": "mine:make", "ray_env": '{"py_modules": ["m"]}'}, False),
    ],
)
def test_the_working_directory_is_sent_where_functions_of_ones_own_are_named(
    connection, settings, sent
):
    RayCluster(config_of(**{"ray_address": "auto"} | settings))
    environment = connection.given["runtime_env"]
    assert (environment.get("working_dir") == os.getcwd()) == sent
    assert ("excludes" in environment) == sent


def test_a_connection_that_there_is_already_is_used_and_left(connection):
    connection.initialised = True
    cluster = RayCluster(config_of())
    assert connection.given is None
    assert cluster.actor_options["runtime_env"]["env_vars"]["JAX_PLATFORMS"] == "cpu"
    cluster.close()
    assert connection.shut == 0


def test_what_ray_refuses_is_one_line(connection):
    connection.fails = RuntimeError("Version mismatch: 2.1\nand more")
    with pytest.raises(
        ConfigError, match="cannot use Ray at auto: RuntimeError: Version mismatch: 2"
    ):
        RayCluster(config_of(ray_address="auto"))
    assert connection.shut == 1


def test_a_signal_while_ray_starts_is_an_interruption(connection):
    """Ray makes a SystemExit of it."""
    connection.fails = SystemExit(int(signal.SIGTERM))
    with pytest.raises(Interrupted) as caught:
        RayCluster(config_of())
    assert caught.value.signum == signal.SIGTERM
    assert connection.shut == 1


def test_room_is_that_of_each_node_and_for_all_hosts(connection, monkeypatch):
    """Three CPUs on one node are none on three."""
    connection.nodes = [
        {"Alive": alive, "Resources": {"CPU": 4.0}} for alive in (True, True, False)
    ]
    RayCluster(config_of(num_actors=2, actor_cpus=3.0))
    with pytest.raises(
        ConfigError, match="room for 2: use --num-actors 2, --min-actors 2 to begin"
    ):
        RayCluster(config_of(num_actors=3, actor_cpus=2.5))
    monkeypatch.setattr(ray_cluster.jax, "process_count", lambda: 2)
    monkeypatch.setattr(ray_cluster.hosts, "answer_aborts", lambda: None)
    RayCluster(config_of(num_actors=8))  # a cluster of each host's own
    with pytest.raises(ConfigError, match="room for 4 of each host: use --num-actors 4"):
        RayCluster(config_of(num_actors=5, ray_address="auto"))


def test_without_ray_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--actors ray needs Ray .*pip install '.\[ray\]'"):
        RayCluster(config_of())


@pytest.mark.parametrize(
    ("settings", "ways"),
    [
        ({"num_actors": 3}, "use --num-actors 2, --min-actors 2 to begin with fewer, fewer "),
        ({"num_actors": 5, "min_actors": 3}, "use --num-actors 2, fewer --actor-cpus or a larger"),
        ({"num_actors": 1, "actor_cpus": 2.5}, "use fewer --actor-cpus or a larger cluster"),
    ],
)
def test_more_actors_than_there_is_room_for_are_refused_and_the_cluster_left(
    connection, settings, ways
):
    with pytest.raises(ConfigError) as caught:
        RayCluster(config_of(**settings))
    assert ways in str(caught.value)
    assert connection.shut == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"num_actors": 2},
        {"num_actors": 20, "actor_cpus": 0.1},
        {"num_actors": 9, "min_actors": 2},
    ],
)
def test_what_fits_is_not_refused(connection, settings):
    RayCluster(config_of(**settings))
    assert connection.shut == 0
