"""The documentation: its code runs, its pages say what the package says, no name is missing."""

import functools
import inspect
import math
import re
import xml.etree.ElementTree as ET
from itertools import chain

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.spec.normal_form import resolve
from tests import ROOT
from tests.docs.run_pages import BLOCK, assert_ignored, run_command, run_page
from tests.helpers import raises
from tests.reference import WITNESSES, draw
from tests.rooms import ROOMS, modules_in_order

pytest.importorskip("mkdocs", reason="the site needs the extra docs")
from mkdocs.commands.build import build  # noqa: E402
from mkdocs.config import load_config  # noqa: E402
from mkdocs.exceptions import Abort  # noqa: E402

from benchmarks import report
from site_pages import (  # noqa: E402
    cells,
    charts,
    counts,
    hooks,
    inserts,
    mathml,
    measured,
    reference,
    spec_code,
)
from site_pages.diagram import draw_cell  # noqa: E402
from site_pages.docstrings import rename_sections  # noqa: E402
from site_pages.idea import write_idea  # noqa: E402

DOCS = ROOT / "docs"
WRITTEN = [*DOCS.rglob("*.md"), ROOT / "CONTRIBUTING.md"]  # the latter is shown on a page
OTHER = [ROOT / name for name in ("README.md", "CHANGELOG.md", "examples/README.md")]
PAGES = sorted(path for path in WRITTEN if "```" in path.read_text(encoding="utf-8"))
WHOLE = ("command-line.md", "coming-from-elsewhere.md", "which-gate-can-go.md")  # built in part
CODE = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
every = pytest.mark.parametrize("name", kg.presets)


# The code ---------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export runs on Keras's TensorFlow backend"
)
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_runs_as_it_stands(page, tmp_path, monkeypatch):
    """Of most guides the commands: `mkdocs build` runs their Python, and fails where it does."""
    if "import torch" in page.read_text(encoding="utf-8"):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    built = page.is_relative_to(DOCS) and page.relative_to(DOCS).as_posix().startswith(hooks.RUN)
    run_page(page, python=not built or page.name in WHOLE)
    assert_ignored([file.name for file in tmp_path.iterdir()])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_code_fits_the_width_of_a_page(page):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    lines = [line for language, code in blocks if language != "text" for line in code.splitlines()]
    assert page.name == "CONTRIBUTING.md" or not [line for line in lines if len(line) > 75]


def test_a_wrong_command_is_found():
    raises(lambda: run_command(["keras-gate", "list"]), "no test knows", pytest.fail.Exception)
    raises(lambda: run_command(["python", "examples/quickstart.py", "--x"]), "--x", AssertionError)
    for word, message in ((".[everything]", "everything"), ("keras-gated", "not on PyPI")):
        raises(lambda word=word: run_command(["pip", "install", word]), message, AssertionError)
    for words in (["python", "-m", "benchmarks.gpu", "--quick"], ["keras-gated", "bench", "--x"]):
        with pytest.raises(SystemExit):
            run_command(words)
    raises(lambda: assert_ignored(["model.onnx", "README.md"]), "README.md", AssertionError)


@functools.cache
def python_files() -> set[str]:
    """Names of all Python files, each after a slash; not those of an environment in .venv."""
    files = [*ROOT.glob("*.py"), *chain.from_iterable(folder.rglob("*.py") for folder in CODE)]
    return {f"/{path.relative_to(ROOT).as_posix()}" for path in files}


@pytest.mark.parametrize("page", [*WRITTEN, *OTHER], ids=lambda path: path.name)
def test_files_that_a_page_names_exist(page):
    for name in re.findall(r"`([\w./]+(?:\.py|/))`", page.read_text(encoding="utf-8")):
        if name.endswith("/"):
            assert (ROOT / name).is_dir() or (ROOT / "keras_gated" / name).is_dir(), name
        else:
            assert [file for file in python_files() if file.endswith(f"/{name}")], name


@pytest.mark.catalogue
@pytest.mark.parametrize("page", [*WRITTEN, *OTHER], ids=lambda path: path.name)
def test_no_page_counts_the_presets(page):
    """Whoever adds one would have to change it; pages of the site have it filled in."""
    text = page.read_text(encoding="utf-8")
    numbers = rf"\b({len(kg.presets)}|{inserts.count_native_presets()})\b"
    assert not re.search(rf"{numbers}[\w ]* (cells|presets)|(cells|presets).{{,20}}{numbers}", text)


# The pages of cells -----------------------------------------------------------------------------


@every
def test_a_cells_page_says_what_the_package_says(name):
    known = kg.presets[name]
    page = cells.write_page(known)
    assert known.paper in page and known.notes in page and kg.equations(name) in page
    assert f"{kg.count_parameters(name, 64, 64):,}" in page
    assert f"{kg.count_flops(name, 64, 64):,}" in page
    ((language, block),) = BLOCK.findall(page)
    names: dict = {}
    exec(block, names)
    assert language == "python" and names["spec"] == known.spec
    assert names["layer"].cell.spec == known.spec


@every
def test_sizes_as_formulas(name):
    form = resolve(kg.preset(name))
    m, n = (5, 5) if form.square else (3, 7)
    for count in (kg.count_parameters, kg.count_flops):
        formula = counts.count_formula(count, name, bool(form.square))
        terms = re.sub(r"(\d) (?=[mn])|(m) (?=n)", r"\1\2*", formula).replace("^", "**")
        assert eval(terms, {"m": m, "n": n}) == count(name, m, n)
    for weight in form.weights:
        shape = re.sub(r"(\d)([mn])", r"\1*\2", counts.shape_formula(weight, form))
        assert eval(shape, {"m": m, "n": n}) == form.shapes(m, n)[weight.name]


def test_specifications_as_code():
    tied = kg.Tied("forget", complement=True, offset=0.5)
    gate = kg.Gate(use_bias=False, bias_initializer={"class_name": "Ones", "config": {}})
    for spec in (kg.CellSpec(), kg.CellSpec(input_gate=tied, forget_gate=gate, use_bias=False)):
        assert eval(spec_code.part_as_code(spec), {"kg": kg}) == spec


@every
def test_a_diagram_has_a_mark_for_each_weight(name):
    """Held against the weights that the witness reads, which knows nothing of the package."""
    features = 5 if WITNESSES[name].square else 3
    drawn = draw(name, features, 5, np.random.default_rng(0))
    parts = [(key, array.ndim) for keys in drawn.values() for key, array in keys.items()]
    seen = [ndim for key, ndim in parts if key.endswith("kernel")]
    stacks = sum(ndim == 3 and "gate" not in key for key, ndim in parts)
    projected = 1 if "projection" in drawn else 0
    picture = ET.fromstring(draw_cell(resolve(kg.preset(name)), name))
    marks = [rect for rect in picture.iter("rect") if rect.get("width") == "13"]
    dense = [rect for rect in marks if rect.get("class") == "on-fill"]
    diagonal = [path for path in picture.iter("path") if _is_diagonal(path.get("d", ""))]
    biases = [c for c in picture.iter("circle") if c.get("r") == "4"]
    assert len(dense) == sum(ndim > 1 for ndim in seen) - projected - stacks
    assert len([rect for rect in picture.iter("rect") if rect.get("width") == "5"]) == 2 * stacks
    peepholes = sum(key == "peephole" for key, _ in parts)
    assert len(diagonal) == sum(ndim == 1 for ndim in seen) + peepholes
    assert len(biases) == sum(key == "bias" for key, _ in parts) - projected


def _is_diagonal(d: str) -> bool:
    numbers = [float(x) for x in re.findall(r"[\d.]+", d)]
    return len(numbers) == 4 and numbers[2] - numbers[0] == numbers[3] - numbers[1] == 10


def test_gates_in_a_diagram():
    displayed = {
        "lstm": {"f σ": "on", "i σ": "on", "o σ": "on", "r = 1": "off"},
        "janet": {"f σ": "on", "i = 1 − f′": "tied", "none": "off"},
        "mgu": {"i σ": "on", "f = 1 − i": "tied", "r = i": "tied"},
        "slim_lstm4a": {"f = 0.96": "off", "o = 1": "off"},
        "elman": {"f = 0": "off", "i = 1": "off", "c̃ tanh": "on"},
    }
    for name, gates in displayed.items():
        picture = list(ET.fromstring(draw_cell(resolve(kg.preset(name)), name)))
        texts = {element.text: k for k, element in enumerate(picture)}
        for written, kind in gates.items():
            assert picture[texts[written] - 1].get("class") == kind, f"{name}: {written}"


def test_the_strip_of_formulas():
    rows = [row for row in ET.fromstring(write_idea()) if row.get("class") == "formula"]
    cells = [["".join(cell.itertext()) for cell in row] for row in rows]
    kinds = [[cell.get("class").split()[0] for cell in row] for row in rows]
    tied = [
        text
        for texts, of in zip(cells, kinds, strict=True)
        for text, kind in zip(texts, of, strict=True)
        if kind == "tied"
    ]
    assert tied == ["(1 − f) ×", "(1 − i) ×", "(1 − i) ×", "i ×", "(1 − f′) ×", "(1 − i) ×"]
    for texts, of in zip(cells, kinds, strict=True):
        opened = []  # a bracket is as dark as the one that closes it
        for text, kind in zip(texts, of, strict=True):
            opened += [kind] if text == "(" else []
            assert text != ")" or opened.pop() == kind
        assert not opened
        for name in "φg":  # no function without its bracket
            at = texts.index(name)
            assert of[at] == "off" or of[at + 1] == "on"


def test_measured_numbers_are_those_of_the_tables():
    size = charts.SIZE
    table = (DOCS / "speed" / "tensorflow.md").read_text(encoding="utf-8")
    head, *rows = re.search(r"## Training step\n\n(.*?)\n\n", table, re.DOTALL)[1].splitlines()
    column = [cell.strip() for cell in head.split("|")].index(size)
    times = {row.split("|")[1].strip(): row.split("|")[column].strip() for row in rows}
    ratio = float(times["keras LSTM"]) / float(times["GatedLSTM"])
    row = next(row for row in measured.speed_table().splitlines() if size in row)
    assert math.isclose(float(row.split("|")[2].split(",")[0]), ratio, abs_tol=0.01)
    for backend in ("tensorflow", "jax", "torch"):
        page = (DOCS / "speed" / f"{backend}.md").read_text(encoding="utf-8")
        assert page == report.markdown(measured.results(backend)), backend
    assert f"| {times['janet']} " in table and "janet of GatedLSTM" in measured.shares_table()
    assert len(measured.int8_table().splitlines()) > 2


# Formulas, inserts, docstrings ------------------------------------------------------------------


@every
def test_equations_become_mathml(name):
    root = ET.fromstring(mathml.to_mathml(kg.equations(name)))
    rows = [row for row in root.iter() if row.tag.endswith("mtr")]
    assert len(rows) == len(kg.equations(name).splitlines()) - 2
    assert {len(row) for row in rows} == {2}
    displayed = re.sub("[~^¯′']", "", "".join(root.itertext()))
    assert displayed == letters(kg.equations(name))


def letters(latex: str) -> str:
    """What of LaTeX is seen, in a row."""
    symbols = {
        r"\sigma": "σ",
        r"\odot": "⊙",
        r"\lambda": "λ",
        r"\zeta": "ζ",
        r"\nu": "ν",
        r"\tanh": "tanh",
        "-": "−",
        r"\,": "",
    }
    for symbol, seen in symbols.items():
        latex = latex.replace(symbol, seen)
    return re.sub(
        r"\\(begin|end)\{aligned\}|\\(tilde|hat|bar|operatorname|frac|sqrt)|[\\{}_^&'\s]", "", latex
    )


def test_formulas_on_a_page():
    page = (
        'a <span class="arithmatex">\\(x &lt; y_t\\)</span>, <div class="arithmatex">\\[z\\]</div>'
    )
    found = mathml.render_formulas(page)
    assert "arithmatex" not in found and found.count("<math") == 2
    assert 'display="inline"' in found and "&lt;" in found.replace("&#x0003C;", "&lt;")


def test_places_on_pages_are_filled_in():
    assert inserts.fill_inserts("a <!-- presets --> b") == f"a {len(kg.presets)} b"
    rows = re.findall(r"\| `(.*?)` \| (.*) \|", inserts.module_table())
    listed = [f"{f}.{m}".removeprefix("keras_gated.") for f, names in rows for m in names.split()]
    assert listed == modules_in_order(ROOMS)
    raises(lambda: inserts.fill_inserts("<!-- nothing such -->"), "nothing such", KeyError)


def test_sections_of_docstrings():
    text = rename_sections(inspect.getdoc(kg.GatedRNN))
    assert "\nExamples:\n" in text and "\nKeyword Args: Call arguments:\n    sequences" in text
    assert "\n**Returns:**\n\n(B, T, U) with return_sequences" in text
    assert "in place of U.\n\nRaises:\n    ValueError" in text


# The reference ----------------------------------------------------------------------------------


def test_the_site_is_refused_where_a_public_name_has_no_documentation(
    tmp_path, monkeypatch, caplog
):
    def planted():
        pass

    monkeypatch.setattr(kg, "planted", planted, raising=False)
    monkeypatch.setattr(kg, "__all__", [*kg.__all__, "planted"])
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    with pytest.raises(Abort):
        build(config)
    assert "without a docstring: planted; not in docs/reference: planted" in caplog.text
    assert not list(tmp_path.iterdir())


def test_every_public_name_has_its_place():
    pages = [path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")]
    reference.check_reference(kg.__all__, pages)
    twice = [*pages, "::: keras_gated.Gate"]
    found = reference.Undocumented
    raises(lambda: reference.check_reference(kg.__all__, twice), "more than once ...: Gate", found)
    raises(lambda: reference.check_reference(kg.__all__[1:], pages), "not public: Blocks", found)


def test_entries_keep_their_options():
    page = reference.expand_entries("::: keras_gated.GatedCell\n    options:\n      members: [a]\n")
    assert "::: keras_gated.cell.GatedCell\n    options:\n" in page
    assert page.endswith("      toc_label: GatedCell\n      members: [a]\n")
    assert page.count("options:") == 1


def test_nothing_is_loaded_from_another_host():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in config
    scripts = re.search(r"^extra_javascript:\n((?:  - .*\n)+)", config, re.MULTILINE)[1]
    for script in re.findall(r"- (.*)", scripts):
        text = (DOCS / script).read_text(encoding="utf-8")
        assert not re.search(r"https?:|import|fetch", text), script
    for sheet in DOCS.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert "url(" not in text and "@import" not in text
    for page in DOCS.rglob("*.md"):
        assert not re.search(r"!\[[^]]*\]\(http|<(img|script)", page.read_text(encoding="utf-8"))
