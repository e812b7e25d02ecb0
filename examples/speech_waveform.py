"""Do gates help on raw sound? The tanh, GRU and LSTM units of Chung et al. 2014 learn speech.

Each reads 20 samples a time step and predicts the next 10 by a mixture of 20 Gaussians. The sizes
are those of the paper's Table 1: 400, 227 and 195 units, about 169,000 weights. Training is that of
polyphonic_music.py, for 20 epochs. The paper's recordings are private. Any folder of WAV files can
replace them, but its scores must not be compared with the paper's. Samples are resampled to 8 kHz
and standardised. Validation and test have whole files of their own. The results include linear
predictors; a mixture of diagonal Gaussians has to learn how the 10 samples depend on one another.

Two collections of real speech under free licences, both Debian packages:

    apt-get install asterisk-core-sounds-en-wav   # a woman, 25 minutes, CC-BY-SA-3.0; 18 MB
    apt-get install festvox-ru                    # 620 sentences, 100 minutes; 179 MB

    pip install ".[examples]"
    python examples/speech_waveform.py --data /usr/share/asterisk/sounds
    python examples/speech_waveform.py --data DIR --set speech_b    # pieces of 8,000 samples
    python examples/speech_waveform.py --data DIR --search --draws 6    # search for rates
    python examples/speech_waveform.py --smoke              # a short run, on noise

Set A has 7,230 pieces of 500 samples, set B 800 of 8,000, as in the paper. Finished runs are lines
of --out/results.jsonl: the same command continues after an interruption.
"""

import argparse
import tempfile
import wave
from pathlib import Path

import extras  # noqa: F401 - names what to install if a package is missing
import numpy as np
from study import speech
from study.carry_out import add_options
from study.comparison import Comparison, chosen_rates, search_or_compare

CELLS = {"elman": "tanh", "gru_chung": "GRU", "lstm_peephole": "LSTM"}
UNITS = {"elman": 400, "gru_chung": 227, "lstm_peephole": 195}
SETTINGS = {"weight_noise": 0.075, "batch_size": 32, "epochs": 20, "patience": 6, "buckets": 1}
SETTINGS |= {"last_rate": 0.02}
# What --search --draws 6 found on the first collection, set A: 3 epochs each, one seed, 25
# minutes. The LSTM's rate was the highest of the six. There was no search on set B or on other
# recordings.
RATES = {"elman": 2.77e-4, "gru_chung": 1.42e-3, "lstm_peephole": 1.91e-3}


def write_noise(folder: Path) -> Path:
    """Writes ten files of filtered noise, the same each time, and returns their folder."""
    rng = np.random.default_rng(0)
    for k in range(10):
        with wave.open(str(folder / f"{k}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", None))
            noise = np.convolve(rng.normal(size=20_000), np.hanning(8), "same")
            file.writeframes((2000 * noise).astype("<i2").tobytes())
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--data", type=Path, help="folder of WAV files")
    parser.add_argument("--set", choices=speech.SETS, default="speech_a", help="as the paper's")
    options = parser.parse_args()
    if not options.data and not options.smoke:
        parser.error("--data must name a folder of WAV files; --help says where there are some.")
    with tempfile.TemporaryDirectory() as empty:
        plan = Comparison(
            "Speech, sample by sample: a stand-in for the paper's private recordings",
            CELLS,
            "elman",
            {(options.set, cell): units for cell, units in UNITS.items()},
            {options.set: SETTINGS},
            chosen_rates(options.out, {options.set: RATES}),
            options.data or write_noise(Path(empty)),
            exponents=(-9.0, -6.0),  # narrower than the paper's: fewer epochs, fewer draws
        )
        search_or_compare(plan, options, search_epochs=3)


if __name__ == "__main__":
    main()
