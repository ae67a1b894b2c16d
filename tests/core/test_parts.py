"""Which transitions, environments and recurrent states the inner and the outer loss see."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import BATCH, STEPS, TinyNetwork, make_config, make_trajectory

from stacx.core.parts import inner_and_outer


class Counting(TinyNetwork):
    """Its recurrent state is the sum of the observations so far."""

    def unroll(self, parameters, observations, starts, state, *, main_head_only=False):
        assert main_head_only
        assert len(starts) == len(observations)
        return (), state + parameters * observations.sum(axis=(0, 2))


TRAJECTORY = dataclasses.replace(make_trajectory(), recurrent_state=jnp.arange(float(BATCH)))
PARAMETERS = jnp.array(2.0)


def parts_of(**settings):
    return inner_and_outer(Counting(heads=3), PARAMETERS, TRAJECTORY, make_config(**settings))


def assert_is_window(part, start, stop, environments=BATCH):
    """Transitions of some environments, and the state where they begin."""
    for field in dataclasses.fields(TRAJECTORY):
        name = field.name
        if name == "recurrent_state":
            continue
        end = stop + 1 if name in ("observations", "starts") else stop
        wanted = getattr(TRAJECTORY, name)[start:end, :environments]
        np.testing.assert_array_equal(getattr(part, name), wanted, err_msg=name)
    before = TRAJECTORY.observations[:start].sum(axis=(0, 2))
    state = (TRAJECTORY.recurrent_state + PARAMETERS * before)[:environments]
    np.testing.assert_allclose(part.recurrent_state, state, rtol=1e-5)


def test_in_the_paper_both_see_everything():
    inner, outer = parts_of()
    assert_is_window(inner, 0, STEPS)
    assert outer is inner


def test_the_outer_loss_may_have_the_end_alone():
    inner, outer = parts_of(outer_steps=2)
    assert_is_window(inner, 0, STEPS - 2)
    assert_is_window(outer, STEPS - 2, STEPS)


def test_a_burn_in_is_in_neither():
    inner, outer = parts_of(burn_in=1, lstm_size=4, outer_steps=2)
    assert_is_window(inner, 1, STEPS - 2)
    assert_is_window(outer, STEPS - 2, STEPS)


@pytest.mark.parametrize(
    ("fraction", "environments"), [(0.01, 1), (0.5, -(-BATCH // 2)), (1.0, BATCH)]
)
def test_the_outer_loss_may_have_a_share_of_the_environments(fraction, environments):
    inner, outer = parts_of(outer_fraction=fraction)
    assert_is_window(inner, 0, STEPS)
    assert_is_window(outer, 0, STEPS, environments)
