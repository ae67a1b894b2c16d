"""Bodies that change between episodes, as in the Real-World RL suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

Edit = Callable[[ElementTree.Element, float], None]


def _pole_length(model: ElementTree.Element, metres: float) -> None:
    pole = _class(model, "pole").find("geom")
    assert pole is not None
    pole.set("fromto", f"0 0 0 0 0 {metres}")
    pole.set("mass", str(metres / 10))


def _thigh_length(model: ElementTree.Element, half: float) -> None:
    for side in ("left", "right"):
        thigh = _named(model, "geom", f"{side}_thigh")
        thigh.set("pos", f"0 0 {-half}")
        thigh.set("size", f"0.05 {half}")
        _named(model, "body", f"{side}_leg").set("pos", f"0 0 {-0.25 - 2 * half}")


def _shin_length(model: ElementTree.Element, metres: float) -> None:
    knee = _class(model, "knee").find("geom")
    assert knee is not None
    knee.set("fromto", f"0 0 0 {metres} 0 {-metres}")
    for end in ("front", "back"):
        for side in ("left", "right"):
            ankle = _named(model, "body", f"ankle_{end}_{side}")
            ankle.set("pos", f"{metres} 0 {-metres}")


def _contact_friction(model: ElementTree.Element, friction: float) -> None:
    body = _class(model, "body").find("geom")
    assert body is not None
    for geom in (body, _named(model, "geom", "floor")):
        geom.set("friction", f"{friction} 0.1 0.1")


class Parameter(NamedTuple):
    """What of a body changes."""

    name: str
    nominal: float
    """Its value in dm_control, in metres, or a coefficient of friction."""
    limits: tuple[float, float]
    """Between which the task can be simulated; wider than what the suite draws from."""
    tasks: tuple[str, ...]
    """The suite's tasks that have this body alone."""
    edit: Edit


PARAMETERS = {
    "cartpole": Parameter(
        "pole_length",
        1.0,
        (0.1, 10.0),
        ("balance", "balance_sparse", "swingup", "swingup_sparse"),
        _pole_length,
    ),
    "walker": Parameter(
        "thigh_length", 0.225, (0.02, 2.0), ("stand", "walk", "run"), _thigh_length
    ),
    "quadruped": Parameter("shin_length", 0.25, (0.1, 2.5), ("walk", "run"), _shin_length),
    "humanoid": Parameter(
        "contact_friction",
        0.7,
        (0.01, 10.0),
        ("stand", "walk", "run", "run_pure_state"),
        _contact_friction,
    ),
}
"""By domain."""


class Body(NamedTuple):
    """How a body changes."""

    low: float
    high: float
    """A value is drawn uniformly between these,"""
    period: int
    """before the first of every so many episodes."""


def changing(
    environment: Any, domain: str, body: Body, random: np.random.Generator
) -> Callable[[], Any]:
    """A function that returns the environment of the next episode: the same task, with its body.

    Args:
        environment: one of dm_control, whose task is kept.
        domain: of that.
        body: how it changes.
        random: where the values come from.
    """
    from dm_control.rl import control

    physics, timestep = environment.physics, environment.control_timestep()
    model, assets = _model(domain, environment.task)
    episodes, current = 0, environment

    def next_episode() -> Any:
        nonlocal episodes, current
        if episodes % body.period == 0:
            xml = edited(domain, model, random.uniform(body.low, body.high))
            current = control.Environment(
                type(physics).from_xml_string(xml, assets),
                environment.task,
                time_limit=1000 * timestep,  # as all of these tasks
                control_timestep=timestep,
            )
        episodes += 1
        return current

    return next_episode


def edited(domain: str, model: bytes | str, value: float) -> str:
    """The XML of a model with its parameter changed."""
    root = ElementTree.fromstring(model)
    PARAMETERS[domain].edit(root, value)
    return ElementTree.tostring(root, encoding="unicode")


def _model(domain: str, task: Any) -> tuple[Any, Any]:
    """The XML that the suite makes a task of, and its files."""
    import importlib

    module = importlib.import_module(f"dm_control.suite.{domain}")
    if domain != "quadruped":
        return module.get_model_and_assets()
    from dm_control.suite import common

    return module.make_model(floor_size=20 * task._desired_speed), common.ASSETS  # 20 s long


def _class(model: ElementTree.Element, name: str) -> ElementTree.Element:
    """The defaults of a class."""
    found = model.find(f".//default[@class='{name}']")
    assert found is not None
    return found


def _named(model: ElementTree.Element, tag: str, name: str) -> ElementTree.Element:
    found = model.find(f".//{tag}[@name='{name}']")
    assert found is not None
    return found
