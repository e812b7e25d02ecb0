"""The pictures of README and of the first page show what the stored runs say."""

import re
import xml.etree.ElementTree as ET

import pytest

from tests import ROOT
from tests.helpers import raises

pytest.importorskip("matplotlib", reason="it draws the pictures")
from site_pages import headline, measured, pictures  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
START = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def texts(svg: str) -> list[str]:
    words = ["".join(element.itertext()).strip() for element in ET.fromstring(svg).iter()]
    return [word for word in words if word and not word.startswith(("*", "image/"))]


def test_the_pictures_are_those_of_the_stored_runs():
    drawn = pictures.pictures()
    files = {file.name: file.read_text(encoding="utf-8") for file in pictures.FOLDER.glob("*.svg")}
    assert files.keys() == drawn.keys()
    for name, svg in drawn.items():
        assert texts(svg)[1:] == texts(files[name])[1:], f"python -m site_pages.pictures: {name}"
    assert sum(map(len, files.values())) < 300_000


def test_every_picture_has_a_text_and_two_themes():
    for name in ("gates", "which-gate", "speed"):
        source, (alt, file) = (
            re.search(rf'srcset="docs/pictures/{name}-dark.svg"', README),
            re.search(rf'<img alt="(.+?)" src="docs/pictures/({name}-light.svg)"', README).groups(),
        )
        assert source and len(alt) > 80 and (pictures.FOLDER / file).exists()
    for theme in pictures.THEMES:
        assert re.search(rf"!\[.{{80,}}\]\(pictures/gates-{theme}.svg#only-{theme}\)", START)


def test_readme_has_the_numbers_of_the_results():
    speed = measured.results("tensorflow")
    least = min(
        times["train"][f"keras {name}{end}"] / times["train"][f"Gated{name}{end}"]
        for times in speed["sizes"].values()
        for name in ("LSTM", "GRU")
        for end in ("", ", last output")
        if f"keras {name}{end}" in times["train"]
    )
    int8 = {(row["preset"], row["units"]): row for row in measured.results("device")["int8"]}
    expected = [
        f"**{headline.weights_saved()} fewer weights",
        f"A GRU without them has {headline.weights_saved('gru')} fewer weights",
        f"**{headline.times_as_fast('LSTM')} and {headline.times_as_fast('GRU')} times as fast",
        f"**{headline.milliseconds_of_a_step('session')} ms for a time step**",
        f"instead of {headline.milliseconds_of_a_step('predict_on_batch')} ms",
        f"The gain is least, {least:.2f} times",
    ]
    for cell in ("lstm", "gru"):
        row = int8[cell, 256]
        expected += [f"{row['int8 bytes']:,}", f"{row['float32 bytes']:,}"]
        expected.append(f"{row['int8']:.2f} ms instead of {row['float32']:.2f}")
    long = measured.results("long_sequences")["times"]["16384"]
    ours, keras = (long[name]["seconds"] for name in ("GatedLSTM", "keras LSTM"))
    expected.append(f"a training step takes {ours:.2f} s instead of {keras:.1f}")
    about = measured.results("device")["about"]
    versions = about["versions"]
    expected.append(
        f"Keras {versions['keras']}, TensorFlow {versions['tensorflow']}, onnxruntime "
        f"{versions['onnxruntime']}; {about['date']})"
    )
    times = speed["sizes"][headline.SIZE]["train"]
    for name in ("keras LSTM", "GatedLSTM", "keras GRU", "GatedGRU"):
        expected.append(f"{name} {1e3 * times[name]:.1f}")
    flat = " ".join(README.split())
    assert not [text for text in expected if text not in flat]


def test_the_gpu_numbers_of_readme_are_those_of_its_page():
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*?, on cuDNN without XLA \|.*\n\| `GatedGRU`, the same.*", page, re.M)
    ends = [row.split("|")[-2].strip() for row in rows[0].splitlines()]
    assert f"{ends[0]} (LSTM) and {ends[1]} (GRU) times as fast" in " ".join(README.split())


def test_a_study_that_says_otherwise_is_found(monkeypatch):
    worse = {"no gate sees h": [-0.1, -0.1, -0.1, -0.1, 0.2]}
    monkeypatch.setattr(headline, "differences", lambda lines: worse)
    raises(headline.weights_saved, "every seed was better")
