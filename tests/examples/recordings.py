"""WAV files for the tests of speech."""

import wave

import numpy as np

PARTS = "train", "valid", "test"
LENGTH = 500


def write_wav(path, samples, rate=8_000, channels=1, bits=16):
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, f"<i{bits // 8}").tobytes())
    return path


def noise(rng, size):
    """Filtered noise, louder at times: what comes depends on what was."""
    x = rng.normal(size=size) * (1 + np.arange(size) % 300 / 100)
    return 300 * np.convolve(x, 0.9 ** np.arange(30), "same")
