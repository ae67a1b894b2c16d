"""Experiments as data: which variants are trained on every task, and what is made of their scores.

The registry has those of the paper, and one that is not in it. One of your own is an `Experiment`
that is handed to `stacx.reproduction.reproduce`, with any tasks:

    Experiment(
        name="learning-rates",
        title="Three meta learning rates",
        paper="Not in the paper.",
        variants=lambda suite: tuple(
            Variant(f"stacx-{rate:g}", {"agent": "stacx", "meta_learning_rate": rate})
            for rate in (3e-4, 1e-3, 3e-3)
        ),
        analyse=comparing.compare,
    )
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stacx.agents import AGENTS
from stacx.config import Config
from stacx.reproduction import adaptivity, analyses, robustness
from stacx.reproduction.results import Analysis, Results
from stacx.reproduction.suites import Suite, Task


@dataclass(frozen=True)
class Variant:
    """One setting of the agent, trained on every task with every seed."""

    name: str
    """Its directory's name, and what tables and figures call it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Config`."""
    derived: Callable[[Config], Mapping[str, Any]] | None = None
    """More fields, from the config that the task has without them."""

    def config(self, task: Task, seed: int, num_seeds: int) -> Config:
        """The complete config of this variant's run on a task."""
        given: dict[str, Any] = {"env": task.env, "steps": task.steps}
        given |= {**task.settings, **self.settings}
        derived = self.derived(Config(**given)) if self.derived else {}
        return Config(**{**given, **derived}, seed=seed, num_seeds=num_seeds)


@dataclass(frozen=True)
class Experiment:
    """What is trained, and what is made of it."""

    name: str
    title: str
    paper: str
    """What the paper shows, and where."""
    variants: Callable[[Suite], tuple[Variant, ...]]
    """The variants, which may depend on the suite."""
    analyse: Callable[[Results], Analysis]
    """From the results of complete runs to tables and figures: a pure function."""
    least_seeds: int = 2
    """With fewer there is nothing to say; intervals need two."""
    tasks: int | None = None
    """Only so many tasks, the suite's first; None: all."""
    one_at_a_time: bool = False
    """Whether runs must not share the machine, since their time is what is measured."""


def agents(suite: Suite) -> tuple[Variant, ...]:
    """The paper's four agents."""
    del suite
    return tuple(Variant(agent, {"agent": agent}) for agent in AGENTS)


def ablation(suite: Suite) -> tuple[Variant, ...]:
    """Nested subsets of metaparameters, with one head and with three.

    The text of section 4.1 names only some of Fig. 2(b)'s bars: nothing tuned, {gamma} (as an
    example), everything, and that alpha is tuned in the two topmost bars alone. The subsets between
    them are what the figure is read as: {gamma, lambda}, then the loss weights as well.
    """
    del suite
    subsets = {
        "gamma": "gamma",
        "gamma-lambda": "gamma,lambda",
        "all-but-alpha": "gamma,lambda,g_v,g_p,g_e",
    }
    rows = []
    for untuned, tuned in (("impala", "stac"), ("impala-aux", "stacx")):
        rows.append(Variant(untuned, {"agent": untuned}))
        for name, tune in subsets.items():
            rows.append(Variant(f"{tuned}-{name}", {"agent": tuned, "tune": tune}))
        rows.append(Variant(tuned, {"agent": tuned}))
    return tuple(rows)


ATARI_DISCOUNTS = (0.99, 0.992, 0.995, 0.997, 0.999)
"""Those of Fig. 4(c) and around the preset's 0.995; the text has none for Fig. 4(a)."""
DISCOUNTS = (0.9, 0.95, 0.98, 0.99, 0.995)
"""Around the other presets' 0.99."""
VALUE_WEIGHTS = (0.025, 0.075, 0.25, 0.75, 2.5)
"""The preset's 0.25 (Table 3), and a tenth, three tenths, three and ten times as much. The text has
none for Fig. 4(b)."""
STARTS = (0.99, 0.992, 0.995, 0.997, 0.999)
"""Fig. 4(c)."""


def perturbed_discounts(suite: Suite) -> tuple[Variant, ...]:
    """STACX with five outer discounts, and IMPALA with the same as its own."""
    values = ATARI_DISCOUNTS if suite.name.startswith("atari") else DISCOUNTS
    return _perturbed("gamma", values)


def perturbed_value_weights(suite: Suite) -> tuple[Variant, ...]:
    """STACX with five outer weights of the value loss, and IMPALA with the same as its own."""
    del suite
    return _perturbed("g_v", VALUE_WEIGHTS)


def _perturbed(setting: str, values: tuple[float, ...]) -> tuple[Variant, ...]:
    return tuple(
        Variant(robustness.perturbed_name(agent, setting, value), {"agent": agent, setting: value})
        for value in values
        for agent in ("impala", "stacx")
    )


def perturbed_starts(suite: Suite) -> tuple[Variant, ...]:
    """STACX whose metaparameters all start at a value, or gamma alone."""
    del suite
    everything = (
        Variant(
            robustness.perturbed_name("stacx", "all-start", value),
            {"agent": "stacx", "initial_logit": math.log(value / (1 - value))},
        )
        for value in STARTS
    )
    gamma_alone = (
        Variant(
            robustness.perturbed_name("stacx", "gamma-starts", value),
            {"agent": "stacx", "initial_gamma": value},
        )
        for value in STARTS
    )
    return (*everything, *gamma_alone)


def two_alphas(suite: Suite) -> tuple[Variant, ...]:
    """STACX, and the variant with 21 metaparameters: alpha_rho and alpha_c apart."""
    del suite
    tune = "gamma,lambda,alpha_rho,alpha_c,g_v,g_p,g_e"
    return (
        Variant("stacx", {"agent": "stacx"}),
        Variant(adaptivity.TWO_ALPHAS, {"agent": "stacx", "tune": tune}),
    )


def only_stacx(suite: Suite) -> tuple[Variant, ...]:
    """STACX alone."""
    del suite
    return (Variant("stacx", {"agent": "stacx"}),)


_WRONG: dict[str, dict[str, float]] = {
    "gamma": {"gamma": 0.8},
    "lambda": {"lambda": 0.5},
    "alpha": {"alpha": 0.3},
    "g_p": {"g_p": 0.1},
    "g_v": {"g_v": 0.1},
}
_WRONG["all"] = {name: value for start in _WRONG.values() for name, value in start.items()}
"""Where metaparameters start; loss weights as fractions of their outer values."""


_LOGITS_TO_GO = 100.0
"""Meta learning rate times updates that suffices to recover (docs/results/README.md).

Table 3's 0.001 is 78 divided by the updates of the paper's Atari runs; in 3,000 updates it moves a
logit by at most 3, and from 0.8 to 0.99 is 3.2."""
_FASTEST = 0.1
"""The largest meta learning rate that was tried."""


def _fast_enough(usual: Config) -> dict[str, float]:
    """A meta learning rate with which metaparameters travel far in the updates there are."""
    wanted = min(_FASTEST, _LOGITS_TO_GO / usual.total_updates)
    return {"meta_learning_rate": max(usual.meta_learning_rate, wanted)}


def _fractions(weights: Mapping[str, float]) -> Callable[[Config], dict[str, float]]:
    """Loss weights as fractions of what they are for a task."""
    return lambda usual: {
        name: fraction * getattr(usual, name) for name, fraction in weights.items()
    }


def started_wrong(suite: Suite) -> tuple[Variant, ...]:
    """IMPALA with badly set values, STAC and STACX that only start there, and IMPALA well set."""
    del suite
    variants = [Variant("impala", {"agent": "impala"})]
    for name, values in _WRONG.items():
        fixed = {
            "lambda_" if key == "lambda" else key: value
            for key, value in values.items()
            if not key.startswith("g_")
        }
        weights = {key: value for key, value in values.items() if key.startswith("g_")}
        starts = {f"initial_{key}": value for key, value in values.items()}
        variants.append(
            Variant(f"impala-wrong-{name}", {"agent": "impala", **fixed}, _fractions(weights))
        )
        for agent in ("stac", "stacx"):
            variants.append(
                Variant(f"{agent}-wrong-{name}", {"agent": agent, **starts}, _fast_enough)
            )
    return tuple(variants)


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "learning-curves",
            "Learning curves of the four agents",
            "Fig. 2(a) and Fig. 3: self-tuning improves on IMPALA with and without auxiliary "
            "heads; on Atari and from pixels auxiliary heads help as well.",
            agents,
            analyses.learning_curves,
        ),
        Experiment(
            "per-domain",
            "Learning curves of every task",
            "Figs. 5 to 9: the four agents, a panel for each domain.",
            agents,
            analyses.per_domain,
            least_seeds=1,
        ),
        Experiment(
            "ablation",
            "Which metaparameters are tuned",
            "Fig. 2(b): the more metaparameters are tuned, the better are STAC and STACX.",
            ablation,
            analyses.ablation,
        ),
        Experiment(
            "robustness-gamma",
            "Other outer discounts",
            "Fig. 4(a): over five games and five discounts STACX is better than IMPALA in 72 % of "
            "the cells.",
            perturbed_discounts,
            robustness.robustness_of_gamma,
        ),
        Experiment(
            "robustness-value-weight",
            "Other outer weights of the value loss",
            "Fig. 4(b): over five games and five weights STACX is better than IMPALA in 80 % of "
            "the cells.",
            perturbed_value_weights,
            robustness.robustness_of_value_weight,
        ),
        Experiment(
            "robustness-init",
            "Other starts of the metaparameters",
            "Fig. 4(c): scores do not change much with where metaparameters start, all of them "
            "(top) or gamma alone (bottom).",
            perturbed_starts,
            robustness.robustness_of_starts,
        ),
        Experiment(
            "adaptivity",
            "Where self-tuning takes the metaparameters",
            "Fig. 5(a), Figs. 10 to 19: head 1's gamma goes to its outer value, those of auxiliary "
            "heads to lower ones, and alpha falls late in training.",
            only_stacx,
            adaptivity.adaptivity,
            least_seeds=1,
        ),
        Experiment(
            "two-alphas",
            "alpha_rho and alpha_c tuned apart",
            "Fig. 5(b) and section 4.3: alpha_rho >= alpha_c in 91.2 % of the time, alpha_rho >= "
            "0.99 alpha_c in 99.2 %; the median score is 353 % instead of 364 %.",
            two_alphas,
            adaptivity.two_alphas,
        ),
        Experiment(
            "runtime",
            "What self-tuning costs in time",
            "Table 4, Atari: IMPALA 70 minutes, STAC 71, IMPALA with auxiliary heads 83, STACX 84 "
            "(TPU); 105, 129, 106 and 133 where a GPU learns.",
            agents,
            analyses.runtime,
            least_seeds=1,
            tasks=1,
            one_at_a_time=True,
        ),
        Experiment(
            "started-wrong",
            "Badly set at the start",
            "Not in the paper: the outer values are right, inner ones start far off. IMPALA keeps "
            "them, STAC and STACX only start there, with a meta learning rate of 100 / updates "
            "(at least the preset's, at most 0.1; Table 3's 0.001 is for 78,125 updates), chosen "
            "for STAC on CartPole.",
            started_wrong,
            robustness.started_wrong,
        ),
    )
}
