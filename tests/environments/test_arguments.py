"""An environment's arguments are what they may be, or named in one line."""

import pytest
from support import message_of

from stacx.environments.arguments import TRUTH, check, number, whole
from stacx.errors import ConfigError

KNOWN = {"steps": whole(1), "noise": number(0.0), "chance": number(0.0, 1.0), "on": TRUTH}


def test_what_is_in_its_range_is_taken():
    check("a:b", {}, KNOWN)
    check("a:b", {"steps": 1, "noise": 0, "chance": 1.0, "on": False}, KNOWN)
    check("a:b", {"noise": 1e9, "chance": 0}, KNOWN)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "a:b: steps must be a whole number of at least 1, not 0"),
        ({"steps": 1.0}, "a:b: steps must be a whole number of at least 1, not 1.0"),
        ({"steps": True}, "a:b: steps must be a whole number of at least 1, not true"),
        ({"noise": -0.1}, "a:b: noise must be a number of at least 0, not -0.1"),
        ({"noise": float("inf")}, "a:b: noise must be a number of at least 0, not Infinity"),
        ({"chance": 1.1}, "a:b: chance must be a number from 0 to 1, not 1.1"),
        ({"chance": "1"}, 'a:b: chance must be a number from 0 to 1, not "1"'),
        ({"chance": True}, "a:b: chance must be a number from 0 to 1, not true"),
        ({"on": 1}, "a:b: on must be true or false, not 1"),
        ({"of": 1}, "a:b has no parameter of: --env-args takes steps, noise, chance, on"),
    ],
)
def test_what_is_not_is_named(arguments, message):
    with pytest.raises(ConfigError) as caught:
        check("a:b", arguments, KNOWN)
    assert message_of(caught) == message
