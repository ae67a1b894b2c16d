"""Models whose parameter is edited have the lengths and frictions that the suite says."""

import numpy as np
import pytest

from stacx.environments import bodies
from stacx.environments.bodies import PARAMETERS, Body, changing
from stacx.environments.dm_control_engine import load_task


def physics_of(domain, value):
    environment = load_task(domain, PARAMETERS[domain].tasks[0], 0)
    model, assets = bodies._model(domain, environment.task)
    xml = bodies.edited(domain, model, value)
    return type(environment.physics).from_xml_string(xml, assets), environment.physics


def same_geometry(one, other):
    for array in ("body_pos", "geom_size", "geom_pos", "body_mass", "geom_friction"):
        np.testing.assert_allclose(
            getattr(one.model, array), getattr(other.model, array), atol=1e-9, err_msg=array
        )


@pytest.mark.parametrize("domain", ["cartpole", "walker", "quadruped"])
def test_the_nominal_value_is_the_suite_s_own_body(domain):
    edited, original = physics_of(domain, PARAMETERS[domain].nominal)
    if domain == "cartpole":  # 0.1 kg, as for the length of 1
        assert original.named.model.body_mass["pole_1"] == pytest.approx(0.1)
    same_geometry(edited, original)


def test_a_longer_pole_is_heavier():
    physics, _ = physics_of("cartpole", 1.7)
    assert physics.named.model.geom_size["pole_1"][1] == pytest.approx(1.7 / 2)
    assert physics.named.model.body_mass["pole_1"] == pytest.approx(0.17)
    assert physics.named.model.geom_pos["pole_1"][2] == pytest.approx(0.85)


def test_longer_thighs_move_the_legs_down():
    physics, _ = physics_of("walker", 0.4)
    for side in ("left", "right"):
        np.testing.assert_allclose(physics.named.model.geom_size[f"{side}_thigh"][:2], [0.05, 0.4])
        np.testing.assert_allclose(physics.named.model.geom_pos[f"{side}_thigh"], [0, 0, -0.4])
        np.testing.assert_allclose(physics.named.model.body_pos[f"{side}_leg"], [0, 0, -1.05])


def test_longer_shins_move_the_ankles():
    physics, _ = physics_of("quadruped", 0.8)
    for leg in ("front_left", "front_right", "back_left", "back_right"):
        np.testing.assert_allclose(physics.named.model.body_pos[f"ankle_{leg}"], [0.8, 0, -0.8])
        half = np.hypot(0.8, 0.8) / 2
        assert physics.named.model.geom_size[f"shin_{leg}"][1] == pytest.approx(half)


def test_friction_of_the_humanoid_and_its_floor():
    physics, _ = physics_of("humanoid", 0.5)
    for geom in ("floor", "torso", "right_shin", "left_right_foot"):
        np.testing.assert_allclose(physics.named.model.geom_friction[geom], [0.5, 0.1, 0.1])


def test_the_quadruped_s_floor_is_as_large_as_its_task_needs():
    environment = load_task("quadruped", "run", 0)
    model, _ = bodies._model("quadruped", environment.task)
    assert b'size="100.0 100.0 .5"' in model or b'size="100 100 .5"' in model  # 20 s at 5 m/s


def test_a_body_is_drawn_before_every_so_many_episodes():
    environment = load_task("cartpole", "swingup", 0)
    begin = changing(environment, "cartpole", Body(0.5, 2.3, 2), np.random.default_rng(0))
    episodes = [begin() for _ in range(400)]
    lengths = [2 * each.physics.named.model.geom_size["pole_1"][1] for each in episodes]
    np.testing.assert_array_equal(lengths[::2], lengths[1::2])
    drawn = np.array(lengths[::2])
    assert len(np.unique(drawn)) == 200
    assert drawn.min() >= 0.5
    assert drawn.max() <= 2.3
    np.testing.assert_allclose(np.quantile(drawn, [0.25, 0.5, 0.75]), [0.95, 1.4, 1.85], atol=0.15)
    assert all(each.task is environment.task for each in episodes)


def test_an_episode_of_another_body_is_as_long():
    environment = load_task("walker", "walk", 0)
    begin = changing(environment, "walker", Body(0.3, 0.3, 1), np.random.default_rng(0))
    current = begin()
    assert current.control_timestep() == environment.control_timestep()
    current.reset()
    steps = 1
    while not current.step(np.zeros(6)).last():
        steps += 1
    assert steps == 1000


@pytest.mark.parametrize("domain", PARAMETERS)
def test_bodies_at_their_limits_can_be_simulated(domain):
    low, nominal, high = (
        PARAMETERS[domain].limits[0],
        PARAMETERS[domain].nominal,
        PARAMETERS[domain].limits[1],
    )
    assert low < nominal < high
    for value in (low, high):
        environment = load_task(domain, PARAMETERS[domain].tasks[-1], 0)
        begin = changing(environment, domain, Body(value, value, 1), np.random.default_rng(0))
        for _ in range(3):
            current = begin()
            current.reset()
            for _ in range(20):  # raises where the simulation becomes unstable
                current.step(np.ones(current.action_spec().shape))
