"""For the tests of studies: a small task that is known by name, and one of recordings."""

import numpy as np
import pytest


@pytest.fixture
def known(monkeypatch):
    """The task "tones" can be loaded by name."""
    import study.tasks
    from study import training

    from tests.examples.study_runs import tones

    monkeypatch.setitem(study.tasks.TASKS, "tones", tones)
    study.tasks.load.cache_clear()
    yield
    study.tasks.load.cache_clear()
    training.shared_model.cache_clear()


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """A task of 20 files of filtered noise."""
    from study import speech

    from tests.examples.recordings import LENGTH, noise, write_wav

    folder, rng = tmp_path_factory.mktemp("voices"), np.random.default_rng(1)
    for k in range(20):
        write_wav(folder / f"{k}.WAV", noise(rng, 2_600))
    return speech.speech("voices", folder, LENGTH, None)
