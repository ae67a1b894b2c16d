"""The presets: four agents, and the settings of each suite of environments.

An agent is two switches on one learner (the paper's Table 1 and section 3.2): which
metaparameters are tuned, and how many heads there are. A suite is the rest, chosen by the
environment's family, and the same for all four agents. Every number stands beside its source.
"""

from __future__ import annotations

from typing import Any, NamedTuple

METAPARAMETERS = ("gamma", "lambda", "alpha", "g_v", "g_p", "g_e")
"""The names of the metaparameters, in the order of Algorithm 2, line 4."""

VARIANTS = ("alpha_rho", "alpha_c", "clip")
"""Further ones, of the paper's variants (section 4.3): alpha taken apart, and rho_bar = c_bar."""


class Agent(NamedTuple):
    """One of the paper's agents: a value of the two switches."""

    tune: str
    heads: int


AGENTS: dict[str, Agent] = {
    "impala": Agent(tune="none", heads=1),
    "stac": Agent(tune="all", heads=1),  # section 3.1
    "impala-aux": Agent(tune="none", heads=3),  # section 4.1, "IMPALA with fixed auxiliary tasks"
    "stacx": Agent(tune="all", heads=3),  # section 3.2
}


class Setting(NamedTuple):
    """A preset's value and where it comes from."""

    value: Any
    source: str


_PAPER_EVERYWHERE = {
    "lambda_": Setting(1.0, "Table 3"),
    "alpha": Setting(1.0, "Table 3"),
    "g_v": Setting(0.25, "Table 3"),
    "g_p": Setting(1.0, "Table 3"),
    "g_e": Setting(0.01, "Table 3"),
    "g_kl": Setting(1.0, "Table 3"),
    "rmsprop_decay": Setting(0.99, "Table 3"),
    "rmsprop_eps": Setting(0.1, "Table 3; inside the root, as in optax"),
    "rmsprop_initial": Setting(0.0, "as in optax; TensorFlow's, and IMPALA's code, starts at 1"),
    "max_gradient_norm": Setting(40.0, "IMPALA, Table G.1; Table 3 lists none"),
    "meta_learning_rate": Setting(1e-3, "Table 3"),
    "reward_scale": Setting(1.0, "not scaled"),
    "reward_clip": Setting(None, "not clipped"),
    "overlap": Setting(0, "windows follow each other"),
    "num_actors": Setting(1, "one steps while the learner learns"),
    "compute_dtype": Setting("float32", "single precision"),
    "normalise_observations": Setting(False, "not in the paper; docs/results/control.md"),
    "head_widths": Setting((256,), "Table 2"),
    "head_init": Setting(1.0, "not in the paper; as all other layers"),
    "max_aux_gradient": Setting(None, "not in the paper; heads are together"),
    "lstm_size": Setting(0, "feed-forward"),
    "mlp_widths": Setting((256, 256), "Table 2; used by the mlp torso"),
    "channels": Setting((16, 32, 32), "IMPALA; Table 2 misprints 16 as 13; used by resnet"),
    "downsampling": Setting("pools", "IMPALA; Table 2, Atari; used by resnet"),
    "torso_output": Setting(0, "none in section 9.3; shallow and nature have their own"),
}

_SMALL_NETWORK = {
    "num_envs": Setting(16, "as good as 8 for IMPALA, and faster; docs/results/classic.md"),
    "trajectory_length": Setting(20, "Table 3, n"),
    "gamma": Setting(0.99, "Table 3, control; not compared"),
    "head_widths": Setting((), "linear heads: small problems need no more"),
    "head_init": Setting(0.01, "heads start alike, near uniform; docs/results/classic.md"),
    "max_aux_gradient": Setting(0.03, "keeps head 1 safer from others; docs/results/runaway.md"),
}

_CONTROL = _PAPER_EVERYWHERE | {
    "steps": Setting(30_000_000, "Table 3"),
    "num_envs": Setting(24, "Table 3, m"),
    "num_actors": Setting(2, "one infers while the other's environments step"),
    "trajectory_length": Setting(40, "Table 3, n"),
    "overlap": Setting(30, "Table 3"),
    "gamma": Setting(0.99, "Table 3"),
    "learning_rate": Setting(1e-3, "Table 3"),
    "end_learning_rate": Setting(1e-4, "Table 3"),
    "torso": Setting("mlp", "Table 2"),
    "channels": Setting((32, 32, 32), "Table 2; used by resnet"),
    "lstm_size": Setting(256, "Table 2"),
    "downsampling": Setting("strides", "Table 2, pixels control; used by resnet"),
    "reward_scale": Setting(0.1, "not in the paper; docs/results/control.md"),
}

SUITES: dict[str, dict[str, Setting]] = {
    "classic": _PAPER_EVERYWHERE
    | _SMALL_NETWORK
    | {
        "steps": Setting(2_000_000, "CartPole is solved, and metaparameters have moved, by then"),
        "learning_rate": Setting(2e-3, "tuned for IMPALA, docs/results/classic.md"),
        "end_learning_rate": Setting(0.0, "as Table 3, Atari"),
        "torso": Setting("mlp", "vector observations"),
        "mlp_widths": Setting((128, 128), "tuned for IMPALA, docs/results/classic.md"),
    },
    "minatar": _PAPER_EVERYWHERE
    | _SMALL_NETWORK
    | {
        "steps": Setting(10_000_000, "as MinAtar papers report"),
        "num_envs": Setting(64, "many make one large batch on a GPU; docs/results/minatar.md"),
        "learning_rate": Setting(5e-3, "tuned for IMPALA, docs/results/minatar.md"),
        "rmsprop_eps": Setting(1e-3, "tuned for IMPALA, docs/results/minatar.md"),
        "end_learning_rate": Setting(0.0, "as Table 3, Atari"),
        "torso": Setting("minatar", "one 3x3 convolution of 16 channels, then 128 units"),
        "torso_output": Setting(128, "MinAtar's own network"),
    },
    "atari": _PAPER_EVERYWHERE
    | {
        "steps": Setting(50_000_000, "Table 3: 200e6 frames, four a step"),
        "num_envs": Setting(32, "Table 3, m"),
        "num_actors": Setting(2, "one infers while the other's environments step"),
        "trajectory_length": Setting(20, "Table 3, n"),
        "gamma": Setting(0.995, "Table 3"),
        "learning_rate": Setting(6e-4, "Table 3"),
        "end_learning_rate": Setting(0.0, "Table 3"),
        "reward_clip": Setting(1.0, "IMPALA, Table G.1"),
        "torso": Setting("resnet", "Table 2"),
    },
    "control": _CONTROL,
    "continuous": _CONTROL
    | {
        "steps": Setting(1_000_000, "Pendulum is solved, and HalfCheetah runs, by then"),
        "lstm_size": Setting(0, "tuned for IMPALA, docs/results/control.md"),
        "lambda_": Setting(0.95, "tuned for IMPALA, docs/results/control.md"),
        "normalise_observations": Setting(True, "units differ; docs/results/control.md"),
        "rmsprop_initial": Setting(1.0, "else policies get stuck; docs/results/control.md"),
        "max_aux_gradient": Setting(0.01, "else auxiliary heads run away; docs/results/runaway.md"),
    },
}

FAMILIES: dict[str, dict[str, Setting]] = {
    "dmc-pixels": {
        "torso": Setting("resnet", "Table 2, pixels control"),
        "num_actors": Setting(1, "every environment is a process: half as many"),
    },
}
"""Where a family of environments differs from its suite."""


_PENDULUM = {"reward_scale": Setting(0.01, "tuned for IMPALA, docs/results/control.md")}

ENVIRONMENTS: dict[str, dict[str, Setting]] = {
    "gymnax:CartPole-v1": {
        "reward_scale": Setting(0.01, "keeps auxiliary heads together; docs/results/classic.md")
    },
    "gym:CartPole-v1": {
        "reward_scale": Setting(0.01, "as gymnax:CartPole-v1"),
    },
    "gym:LunarLander-v3": {
        "reward_scale": Setting(0.01, "keeps auxiliary heads closer; docs/results/atari.md"),
        "gamma": Setting(0.995, "episodes of hundreds of steps; not compared"),
        "g_e": Setting(1e-5, "in proportion to the rewards; docs/results/atari.md"),
        "rmsprop_eps": Setting(0.003, "in proportion to the gradients; docs/results/atari.md"),
        "steps": Setting(3_000_000, "solved by then; docs/results/atari.md"),
    },
    "gymnax:Acrobot-v1": {
        "reward_scale": Setting(0.1, "tuned for IMPALA, docs/results/classic.md")
    },
    "gymnax:MountainCar-v0": {"reward_scale": Setting(0.02, "returns of hundreds; not compared")},
    "gymnax:MemoryChain-bsuite": {"lstm_size": Setting(64, "the task needs memory")},
    "gym:Pendulum-v1": _PENDULUM,
    "gymnax:Pendulum-v1": _PENDULUM,
}
"""Where one environment differs from its suite."""

_SUITE_OF_FAMILY = {
    "gymnax": "classic",
    "gym": "classic",
    "atari": "atari",
    "playground": "control",
    "dmc": "control",
    "dmc-pixels": "control",
    "rwrl": "control",
}

_CONTINUOUS = (
    *("Pendulum", "MountainCarContinuous", "LunarLanderContinuous"),
    *("BipedalWalker", "BipedalWalkerHardcore", "PointRobot"),
    *("Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum"),
    *("InvertedPendulum", "Pusher", "Reacher", "Swimmer", "Walker2d"),
)
"""Gymnasium's and gymnax's environments whose actions are numbers and observations features."""


def suite_of(env: str) -> str:
    """The suite preset for an environment id.

    By family, but `minatar` for the MinAtar games, and `continuous` where Gymnasium's and gymnax's
    actions are numbers.
    """
    if env.endswith("-MinAtar"):
        return "minatar"
    family, _, name = env.partition(":")
    if family in ("gym", "gymnax") and _without_version(name) in _CONTINUOUS:
        return "continuous"
    return _SUITE_OF_FAMILY.get(family, "classic")


def _without_version(name: str) -> str:
    """`Pendulum` of `Pendulum-v1` and `phys2d/Pendulum-v0`, `Reacher` of `Reacher-misc`."""
    return name.rpartition("/")[2].partition("-")[0]
