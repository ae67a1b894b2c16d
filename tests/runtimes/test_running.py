"""What a compiled program says becomes one line."""

import pytest
from support import message_of

from stacx.errors import BrokenEnvironmentError, CheckpointError, StacxError
from stacx.runtimes.running import running

TRACEBACK = """INTERNAL: CpuCallback error calling callback: Traceback (most recent call last):
  File "/jax/callback.py", line 816, in _wrapped_callback
    return call()
           ^^^^^^
  File "/mine/game.py", line 15, in step
    raise RuntimeError(text)
RuntimeError: game over
and out
"""


def raised(error, expected):
    with pytest.raises(expected) as caught, running("my:game"):
        raise error
    return message_of(caught)


def test_an_error_in_a_callback_is_the_environments():
    message = raised(ValueError(TRACEBACK), BrokenEnvironmentError)
    assert message == "my:game raised RuntimeError: game over (/mine/game.py:15)"


def test_any_other_error_of_the_program():
    error = ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nand much more")
    message = raised(error, StacxError)
    assert message.startswith(
        "my:game cannot be run: ValueError: RESOURCE_EXHAUSTED: Out of memory"
    )


def test_errors_of_stacx_pass():
    assert raised(CheckpointError("as it was"), CheckpointError) == "as it was"
