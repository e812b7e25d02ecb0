"""Music for studies: read from files, and scored."""

import pickle

import keras
import numpy as np
import pytest
import study.tasks
from study import music
from study.task import Part

pytestmark = pytest.mark.usefixtures("known")


def test_music_is_read_from_both_kinds_of_file(tmp_path):
    from scipy.io import savemat

    pieces = [[(21, 60, 108), (), (64,)], [(60,), (61, 62)]]
    rolls = np.empty((1, 2), object)
    rolls[0, :] = [music.roll_of(piece).astype("uint8") for piece in pieces]
    savemat(tmp_path / "JSB_Chorales.mat", {f"{part}data": rolls for part in music.PARTS})
    data = {part: pieces for part in music.PARTS}
    (tmp_path / "Nottingham.pickle").write_bytes(pickle.dumps(data, protocol=2))
    one, two = (music.read_rolls(name, tmp_path) for name in ("jsb", "nottingham"))
    for part in music.PARTS:
        for a, b in zip(one[part], two[part], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == np.float32
    assert np.flatnonzero(one["test"][0][0]).tolist() == [0, 39, 87]


def test_a_file_that_could_run_something_is_refused(tmp_path):
    (tmp_path / "Nottingham.pickle").write_bytes(pickle.dumps({"train": print}))
    with pytest.raises(pickle.UnpicklingError, match="Received: builti"):
        music.read_rolls("nottingham", tmp_path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="'MuseData.mat', 'MuseData.pic"):
        music.read_rolls("muse", tmp_path)
    with pytest.raises(ValueError, match="'adding_100'.* 'jazz'"):
        study.tasks.load("jazz")


def test_the_next_frame_is_the_target_and_the_first_is_not_scored():
    roll = np.random.default_rng(0).integers(0, 2, (7, 88)).astype("float32")
    part = music.next_frames([roll])
    np.testing.assert_array_equal(part.sequences[0][1:], part.targets[0][:-1])
    np.testing.assert_array_equal(part.targets[0][-1], roll[-1])
    assert isinstance(part, Part) and len(part.sequences[0]) == 6


def test_the_logits_of_music_are_scored_in_nats_a_frame():
    rng = np.random.default_rng(0)
    y, logits = rng.integers(0, 2, (2, 3, 88)), rng.normal(size=(2, 3, 88))
    p = 1 / (1 + np.exp(-logits))
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=-1)
    found = music.nats(y.astype("float32"), logits.astype("float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-5)
