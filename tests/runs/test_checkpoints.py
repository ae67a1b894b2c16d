"""Checkpoints come back exactly, or not at all."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import message_of
from tiny_runs import spoil

from stacx.errors import CheckpointError
from stacx.runs import CheckpointWarning
from stacx.runs.checkpoints import Checkpoints
from stacx.runtimes.arrays import flatten, unflatten

TREE = {
    "weights": np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32),
    "special": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
    "counts": (np.int32(3), np.uint32([1, 2]), np.array([True, False])),
    "halves": np.array([1.5, 2.5], jnp.bfloat16),
}
METADATA = {"observation_shape": [2, 3], "num_actions": 4}


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", kept=3)


def save(checkpoints, *updates):
    for number in updates:
        checkpoints.save(number, flatten(TREE | {"updates": np.int32(number)}), METADATA)


def test_arrays_and_metadata_come_back_bit_for_bit(checkpoints):
    checkpoints.save(7, flatten(TREE), METADATA)
    updates, arrays, metadata = checkpoints.load_newest()
    assert updates == 7
    assert metadata == METADATA
    wanted = flatten(TREE)
    assert arrays.keys() == wanted.keys()
    for name, array in wanted.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


def test_the_newest_few_are_kept(checkpoints):
    assert checkpoints.steps() == []
    save(checkpoints, 1, 9, 20, 100)
    assert checkpoints.steps() == [100, 20, 9]
    assert checkpoints.load_newest()[0] == 100


def test_none_at_all(checkpoints):
    with pytest.raises(CheckpointError, match="there is no checkpoint in "):
        checkpoints.load_newest()


def test_a_kill_while_writing_leaves_nothing_behind(checkpoints, tmp_path):
    save(checkpoints, 10)
    unfinished = tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert checkpoints.steps() == [10]
    assert checkpoints.load_newest()[0] == 10
    assert unfinished.exists()  # whoever reads may do so while another writes
    save(checkpoints, 20)
    assert checkpoints.steps() == [20, 10]
    assert not unfinished.exists()


def test_every_file_may_be_damaged_in_every_way(checkpoints, tmp_path):
    """What is loaded is what was saved: the damaged checkpoint, if nobody needs that file."""
    save(checkpoints, 10, 20)
    folder = tmp_path / "checkpoints" / "20"
    passed_over = 0
    for file in (path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for damaged in (b"", content[: len(content) // 2], flipped(content), None):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            passed_over += newest_is_whole(checkpoints) == 10
            file.write_bytes(content)
    assert passed_over > 10
    assert newest_is_whole(checkpoints) == 20


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def newest_is_whole(checkpoints):
    """The number of the newest checkpoint, after a look at everything in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)
        updates, arrays, metadata = checkpoints.load_newest()
    wanted = flatten(TREE | {"updates": np.int32(updates)})
    assert arrays.keys() == wanted.keys()
    assert all(arrays[name].tobytes() == array.tobytes() for name, array in wanted.items())
    assert metadata == METADATA
    return updates


def test_a_damaged_one_is_named_in_a_warning(checkpoints, tmp_path):
    save(checkpoints, 10, 20, 30)
    newest = tmp_path / "checkpoints" / "30"
    spoil(newest, "flip")
    spoil(tmp_path / "checkpoints" / "20", "delete")
    with pytest.warns(CheckpointWarning) as caught:
        assert checkpoints.load_newest()[0] == 10
    (warning,) = caught
    message = str(warning.message)
    assert message.startswith(f"{newest} is damaged (")
    assert "20 is damaged" in message
    assert message.endswith("; using the one before, 10")
    assert "\n" not in message


def test_if_none_is_whole_all_are_named(checkpoints, tmp_path):
    save(checkpoints, 10, 20)
    for name in ("10", "20"):
        spoil(tmp_path / "checkpoints" / name, "truncate")
    with pytest.raises(CheckpointError, match="no checkpoint is whole: ") as caught:
        checkpoints.load_newest()
    message = message_of(caught)
    assert "checkpoints/10 is damaged" in message
    assert "checkpoints/20 is damaged" in message


def test_a_run_that_went_back_saves_over_what_was_damaged(checkpoints):
    """Orbax refuses steps that are not the newest, and says nothing."""
    save(checkpoints, 10, 20, 30)
    save(checkpoints, 15)
    assert checkpoints.steps() == [15, 10]
    save(checkpoints, 15)
    assert checkpoints.steps() == [15, 10]
    assert checkpoints.load_newest()[1]["['updates']"] == 15


def test_an_error_of_the_writer_is_one_line(checkpoints, monkeypatch):
    save(checkpoints, 10)

    def broken(*_, **__):
        raise ValueError("the server room\nis on fire")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", broken)
    with pytest.raises(CheckpointError, match="cannot write a checkpoint to ") as caught:
        save(checkpoints, 20)
    assert "the server room; the checkpoints before are whole" in message_of(caught)
    assert checkpoints.load_newest()[0] == 10


def test_keys_and_empty_arrays_in_an_environments_state(checkpoints):
    """Orbax takes neither."""
    tree = {"keys": jax.random.split(jax.random.key(3), 4), "empty": jnp.zeros((4, 0))}
    checkpoints.save(1, flatten(tree), {})
    restored = unflatten(checkpoints.load_newest()[1], jax.eval_shape(lambda: tree))
    assert restored["empty"].shape == (4, 0)
    assert restored["keys"].dtype == tree["keys"].dtype
    np.testing.assert_array_equal(*map(jax.random.key_data, (restored["keys"], tree["keys"])))
