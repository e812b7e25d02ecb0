"""One word, one meaning: names and phrases that are retired do not come back.

The words that are used, and what each means, stand in docs/building.md.
"""

import io
import re
import tokenize

import pytest

from tests import ROOT

CODE = ("keras_gated", "benchmarks", "examples", "site_pages", "tests")
# A name that had several meanings or said nothing, and what to write instead.
NAMES = {
    "Draws": "RandomMasks",
    "_Nothing": "UnsupportedBackend",
    "_apart": "_independent; largest_differences",
    "_shown": "format_..., to_numpy_masked: what it returns",
    "_told": "describe_..., error_text: what it returns",
    "beside": "stepwise_option; what it is",
    "call_in_place_of": "replacement_call",
    "chance": "random_masks",
    "draws": "draw_masks",
    "elsewhere": "subprocess_export",
    "export_elsewhere": "export_in_subprocess",
    "foreign": "keras_layers",
    "gated_layers": "nothing: nobody called it",
    "histogram": "count_operators",
    "in_time": "over_time",
    "keeping": "serialization",
    "kept": "residuals; zoneout; forget_value: what it is",
    "laid": "stack_window",
    "laid_out": "weight_layout",
    "learning": "training",
    "placing": "stubs",
    "prepared": "slice_weights",
    "put_in_place": "replace_when_complete",
    "samples_of": "inputs",
    "shown": "what it is",
    "silence": "zeros",
    "step_by_step": "sequential_option",
    "subject": "copies",
    "taken_over": "patched_layers",
    "told": "describe_shapes; error_text: what it returns",
    "zoned": "apply_zoneout",
}
# A phrase that a reader has to guess at, and plainer words.
PHRASES = {
    r"beside the formula": "in addition to the formula",
    r"be it by way of": "directly or through others",
    r"by way of others": "through others",
    r"cells can be told of": "specifications can be printed and counted",
    r"(cannot|can) leave as": "be exported as",
    r"\bleaves? (natively|as an?|as one|as the)\b": "is exported as",
    r"held to account": "checked",
    r"nobody else (cuts|interprets|knows)": "only ... does",
    r"somebody looks on": "stderr is a terminal",
    r"stands? where Keras runs": "works on this backend",
    r"\btells? (of|what|how|whether|which|that)\b": "describes, says, shows",
    r"\b(is|are|was|be|been) told\b": "is given, receives",
    r"what a layer leaves": "the stub of a layer",
    r"what is (given|kept|shown|told)\b": "name it",
    r"keras-gated\[": 'pip install ".[extra]" in a clone',
}
# Prose that reports what was seen then, and is not rewritten.
LEFT = ("docs/results/", "CHANGELOG.md", "LICENSE")


def files(*suffixes: str) -> list[str]:
    found = [*ROOT.glob("*.md"), *ROOT.glob("*.py"), *ROOT.glob("docs/**/*.md")]
    found += [path for folder in CODE for path in (ROOT / folder).rglob("*")]
    names = sorted(str(path.relative_to(ROOT)) for path in found if path.suffix in suffixes)
    return [name for name in names if not name.startswith(LEFT)]


def names_in(text: str) -> set[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


@pytest.mark.parametrize("file", files(".py"))
def test_no_retired_name(file):
    found = names_in((ROOT / file).read_text(encoding="utf-8")) & NAMES.keys()
    assert not found, {name: NAMES[name] for name in found}


@pytest.mark.parametrize("file", files(".py", ".md"))
def test_no_retired_phrase(file):
    if file == "tests/test_words.py":
        return
    text = " ".join((ROOT / file).read_text(encoding="utf-8").split())
    found = {m[0]: plain for phrase, plain in PHRASES.items() if (m := re.search(phrase, text))}
    assert not found


def test_retired_words_are_found():
    assert names_in("beside = told(x)  # laid") & NAMES.keys() == {"beside", "told"}
    assert re.search(r"\btells? (of|what)\b", "`list` and `show` tell of cells")
    assert len(files(".py")) > 100 and len(files(".md")) > 20
