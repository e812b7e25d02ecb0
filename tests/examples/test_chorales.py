"""The examples' data: Bach's chorales read from music21, and what a model without memory scores."""

import importlib.util

import chorales
import keras
import numpy as np
import pytest

needs_corpus = pytest.mark.skipif(
    importlib.util.find_spec("music21") is None,
    reason="the chorales come with music21, which is not installed",
)

SCORE = "<score-partwise><part-list/>{parts}</score-partwise>"
HEAD = "<attributes><divisions>2</divisions><key><fifths>{fifths}</fifths></key></attributes>"


@pytest.fixture(scope="module")
def rolls():
    return chorales.read_chorales()


@pytest.fixture(scope="module")
def splits(rolls):
    return chorales.split(rolls)


def note(step, octave, duration, extra="", alter=0):
    pitch = f"<step>{step}</step><alter>{alter}</alter><octave>{octave}</octave>"
    return f"<note>{extra}<pitch>{pitch}</pitch><duration>{duration}</duration></note>"


def rest(duration):
    return f"<note><rest/><duration>{duration}</duration></note>"


def write_score(path, *parts, fifths=0):
    """A score whose every part is a list of measures, each a string of notes."""
    text = ""
    for first, *more in parts:
        measures = [HEAD.format(fifths=fifths) + first, *more]
        text += f"<part>{''.join(f'<measure>{m}</measure>' for m in measures)}</part>"
    path.write_text(SCORE.format(parts=text))
    return path


def sounding(frame):
    """MIDI numbers of the keys that are down."""
    return [int(key) + 21 for key in np.flatnonzero(frame)]


# ---------------------------------------------------------------------------------- reading a score


def test_a_frame_holds_what_sounds_on_the_quarter(tmp_path):
    high = [note("C", 5, 1) + note("D", 5, 1) + note("E", 5, 4)]  # D falls between two quarters
    low = [rest(1) + note("C", 3, 3) + note("G", 2, 2)]  # C starts late, sounds on the second
    score = chorales.read_score(write_score(tmp_path / "a.xml", high, low))
    notes = [n for part in score.iter("part") for n in chorales.read_part(part)]
    assert [sounding(frame) for frame in chorales.piano_roll(notes)] == [[72], [48, 76], [43, 76]]


def test_second_voice_chord_and_grace_note(tmp_path):
    voices = note("C", 5, 2) + "<backup><duration>2</duration></backup>"
    voices += note("F", 4, 2, alter=1) + note("A", 4, 2, extra="<chord/>")
    voices += "<note><grace/><pitch><step>B</step><octave>5</octave></pitch></note>"
    voices += "<forward><duration>2</duration></forward>" + note("B", 4, 2, alter=-1)
    score = chorales.read_score(write_score(tmp_path / "a.xml", [voices, note("C", 4, 2)]))
    frames = chorales.piano_roll(chorales.read_part(next(score.iter("part"))))
    assert [sounding(frame) for frame in frames] == [[66, 69, 72], [], [70], [60]]


def test_divisions_may_change_and_silence_at_the_end_is_cut(tmp_path):
    change = "<attributes><divisions>8</divisions></attributes>"
    measures = [note("C", 4, 2), change + note("D", 4, 8) + rest(8) + note("E", 4, 8), rest(32)]
    score = chorales.read_score(write_score(tmp_path / "a.xml", measures))
    frames = chorales.piano_roll(chorales.read_part(next(score.iter("part"))))
    assert [sounding(frame) for frame in frames] == [[60], [62], [], [64]]


@pytest.mark.parametrize("tonic", range(12))
def test_the_tonic_comes_to_rest_on_the_nearest_c(tonic):
    roll = np.zeros((1, 88), np.float32)
    roll[0, 60 + tonic - 21] = 1
    (moved,) = sounding(chorales.transpose_to_c(roll, tonic)[0])
    assert moved % 12 == 0
    assert -6 <= moved - (60 + tonic) <= 5


def test_only_four_parts_and_no_duplicates(tmp_path):
    parts = [[note(step, 4, 2) + note(step, 4, 2)] for step in "GBDG"]
    write_score(tmp_path / "one.xml", *parts, fifths=1)
    write_score(tmp_path / "same.xml", *parts, fifths=1)
    write_score(tmp_path / "three.xml", *parts[:3], fifths=1)
    assert list(chorales.read_chorales(tmp_path)) == ["one"]


def test_without_music21_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*\[examples\]"):
        chorales.read_chorales()


# ---------------------------------------------------------------------------------- the whole set


@needs_corpus
def test_the_splits_have_their_sizes(splits):
    assert [len(part) for part in splits] == [217, 72, 73]
    steps = [sum(map(len, part)) for part in splits]
    np.testing.assert_allclose(steps, [11_800, 4_000, 3_900], rtol=0.03)


@needs_corpus
def test_no_chorale_stands_in_two_splits(splits):
    everything = [roll.tobytes() for part in splits for roll in part]
    assert len(set(everything)) == len(everything) == 362


@needs_corpus
def test_the_split_is_the_same_each_time_and_another_with_another_seed(rolls, splits):
    again, other = chorales.split(rolls), chorales.split(rolls, seed=1)
    for part, same in zip(splits, again, strict=True):
        assert all(a is b for a, b in zip(part, same, strict=True))
    assert other[0][0] is not splits[0][0]


@needs_corpus
def test_rolls_hold_zeros_and_ones_in_the_range_of_a_choir(rolls):
    frames = np.concatenate(list(rolls.values()))
    assert frames.shape[1] == 88
    assert set(np.unique(frames)) == {0.0, 1.0}
    used = sounding(frames.any(axis=0))
    assert 28 <= used[0] and used[-1] <= 88
    assert frames.sum(axis=1).max() == 4  # a voice sings one note at a time
    assert 3.8 < frames.sum(axis=1).mean() < 4.0  # unisons count once, rests are rare
    assert all(roll[-1].any() for roll in rolls.values())


@needs_corpus
def test_most_chorales_end_on_c(rolls):
    ends = [sounding(roll[-1])[0] % 12 for roll in rolls.values()]
    assert np.mean(np.equal(ends, 0)) > 0.9


@needs_corpus
@pytest.mark.parametrize(
    "name, steps, shift, first",
    [
        # Aus meines Herzens Grunde, in G major: 21 bars of three quarters, from G2 B3 D4 G4.
        ("bwv269", 63, 5, [43, 59, 62, 67]),
        # The last of cantata 66, in F sharp minor: 9 bars of four quarters, from A3 A3 E4 C#5.
        ("bwv66.6", 36, -6, [57, 64, 73]),
    ],
)
def test_known_chorales(rolls, name, steps, shift, first):
    assert len(rolls[name]) == steps
    assert sounding(rolls[name][0]) == [key + shift for key in first]


# ---------------------------------------------------------------------------- padding, nats a step


@pytest.fixture
def toy():
    """Five rolls of different lengths, about four keys of twelve down."""
    rng = np.random.default_rng(3)
    rolls = [np.zeros((steps, 88), np.float32) for steps in (9, 2, 14, 6, 11)]
    for roll in rolls:
        roll[:, 30:42] = rng.random((len(roll), 12)) < 0.3
    return rolls


@pytest.mark.parametrize("length", [None, 13, 20, 5, 1])
@pytest.mark.parametrize("rows", [1, 4])
def test_padding_neither_loses_nor_adds_a_step(toy, length, rows):
    inputs, targets, mask = chorales.pad(toy, length, rows)
    assert len(inputs) % rows == 0
    x, y = chorales.frame_pairs(toy)
    np.testing.assert_array_equal(inputs[mask == 1], x)  # all pairs, in order
    np.testing.assert_array_equal(targets[mask == 1], y)
    assert not inputs[mask == 0].any() and not targets[mask == 0].any()
    assert (np.diff(mask, axis=1) <= 0).all()  # the padding comes last


@pytest.mark.parametrize("length, rows", [(13, 1), (50, 1), (5, 4), (13, 2)])
def test_what_keras_reports_is_nats_per_step_however_padded(toy, length, rows):
    inputs, targets, weights = chorales.weighted(toy, length, rows)
    model = keras.Sequential([keras.Input((None, 88)), keras.layers.Dense(88)])
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    report_on = model.evaluate(inputs, targets, rows, sample_weight=weights, verbose=0)

    x, y = chorales.frame_pairs(toy)
    kernel, bias = (w.numpy() for w in model.weights)
    p = 1 / (1 + np.exp(-(x @ kernel + bias)))
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum() / len(y)
    assert report_on == pytest.approx(expected, rel=1e-5)


# -------------------------------------------------------------------------------------- the floors


def test_marginal_and_bigram_are_what_the_formulas_say(toy):
    train, test = toy[:4], toy[4:]
    found = chorales.floors(train, test)
    x, y = chorales.frame_pairs(train)
    (roll,) = test
    marginal = bigram = 0.0
    for before, now in zip(roll[:-1], roll[1:], strict=True):
        for key in range(88):
            p = (y[:, key].sum() + 0.5) / (len(y) + 1)
            marginal -= np.log(p if now[key] else 1 - p)
            alike = x[:, key] == before[key]
            p = (y[alike, key].sum() + 0.5) / (alike.sum() + 1)
            bigram -= np.log(p if now[key] else 1 - p)
    steps = len(roll) - 1
    assert found["marginal"] == pytest.approx(marginal / steps, rel=1e-9)
    assert found["bigram"] == pytest.approx(bigram / steps, rel=1e-9)


def test_the_logistic_regression_is_at_its_minimum():
    rng = np.random.default_rng(0)
    design = np.column_stack([rng.random((300, 4)) < 0.4, np.ones(300)]).astype(float)
    target = (rng.random(300) < 0.2 + 0.6 * design[:, 1]).astype(float)

    def objective(w):
        logits = design @ w
        return (np.logaddexp(0, logits) - target * logits).sum() + 0.5 * 0.7 * w @ w

    best = chorales.fit_logistic(design, target[:, None], penalty=0.7)[:, 0]
    for direction in np.eye(5):
        for size in (-0.05, 0.05):
            assert objective(best) < objective(best + size * direction)


def test_the_logistic_floor_sees_what_other_keys_tell():
    rng = np.random.default_rng(0)
    roll = np.zeros((2000, 88), np.float32)
    roll[:, 40] = rng.random(2000) < 0.5
    roll[1:, 47] = roll[:-1, 40]  # the fifth follows one step later
    found = chorales.floors([roll[:1500]], [roll[1500:]])
    assert found["marginal"] == pytest.approx(2 * np.log(2), abs=0.05)
    assert found["bigram"] == pytest.approx(2 * np.log(2), abs=0.05)
    assert found["logistic"] == pytest.approx(np.log(2), abs=0.05)


@needs_corpus
def test_the_floors_lie_where_they_are_known_to_lie(splits):
    train, _, test = splits
    found = chorales.floors(train, test)
    assert 10.8 < found["marginal"] < 11.4
    assert 10.3 < found["bigram"] < 10.9
    assert 8.9 < found["logistic"] < 9.3
