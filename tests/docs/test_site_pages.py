"""Pages that are made from results: the gallery, charts, the choice of a cell, the studies."""

import json
import re
import xml.etree.ElementTree as ET

import pytest

import keras_gated as kg
from benchmarks import cells as benchmark
from site_pages import cells, charts, gallery, inserts, measured, studies, which_cell
from tests import ROOT
from tests.helpers import raises

DOCS = ROOT / "docs"
SCRIPT = DOCS / "javascripts" / "cells.js"


def rows_of_gallery() -> list[ET.Element]:
    table = re.search(r'<table class="cells".*</table>', gallery.write_gallery(), re.DOTALL)[0]
    return list(ET.fromstring(table).find("tbody"))


# The gallery ------------------------------------------------------------------------------------


@pytest.mark.catalogue
def test_every_preset_was_measured_with_the_weights_that_it_has():
    for name in kg.presets:
        assert measured.cell_facts(name)["weights"] == kg.count_parameters(name, 64, 64)
    page = (DOCS / "speed" / "cells.md").read_text(encoding="utf-8")
    assert page == benchmark.markdown(measured.results("cells"))


@pytest.mark.parametrize(
    "change", [lambda cells: cells.pop("mgu"), lambda c: c["mgu"].pop("train")]
)
def test_a_preset_without_a_measurement_is_found(change, monkeypatch):
    planted = json.loads((DOCS / "speed" / "cells.json").read_text(encoding="utf-8"))
    change(planted["cells"])
    monkeypatch.setattr(measured, "results", lambda name: planted)
    measured.cell_facts.cache_clear()
    raises(gallery.write_gallery, "", KeyError)
    measured.cell_facts.cache_clear()


def test_a_preset_that_has_other_weights_than_when_it_was_measured_is_found(monkeypatch):
    planted = json.loads((DOCS / "speed" / "cells.json").read_text(encoding="utf-8"))
    planted["cells"]["mgu"]["weights"] += 1
    monkeypatch.setattr(measured, "results", lambda name: planted)
    measured.cell_facts.cache_clear()
    message = "docs/speed/cells.json must have preset 'mgu' ... python -m benchmarks.cells"
    raises(lambda: measured.cell_facts("mgu"), message, KeyError)
    measured.cell_facts.cache_clear()


@pytest.mark.catalogue
def test_the_gallery_has_every_cell():
    rows = rows_of_gallery()
    assert [row[0].get("data-value") for row in rows] == [
        preset.name for members in cells.by_family().values() for preset in members
    ]
    assert {known.family for known in kg.presets.values()} == set(cells.FAMILIES)
    for row in rows:
        name = row[0].get("data-value")
        link, figure = row[0]
        title = kg.presets[name].title.replace("_t", "t")
        assert link.get("href") == f"{name}/" and title in "".join(link.itertext())
        assert figure[0].get("class") == "cell"
        texts = {cell.get("data-key"): cell.text for cell in row[1:]}
        assert list(texts) == list(gallery.COLUMNS)[1:]
        assert texts["weights"] == f"{kg.count_parameters(name, 64, 64):,}"
        states = len(kg.GatedCell(4, name).state_size) if texts["states"] != "1" else 1
        assert int(texts["states"]) == states


def test_parallel_in_time_is_what_a_layer_accepts():
    for row in rows_of_gallery():
        name, parallel = row[0].get("data-value"), row.get("data-parallel")
        try:
            kg.GatedRNN(4, name, time_parallel=True)
        except ValueError:
            assert parallel == "", name
        else:
            assert parallel in ("scan", "newton"), name


def test_the_script_knows_every_filter_and_column():
    script, page = SCRIPT.read_text(encoding="utf-8"), gallery.write_gallery()
    form = re.search(r'<form class="cells".*</form>', page)[0]
    names = set(re.findall(r'name="(\w+)"', form))
    assert names == set(re.findall(r"wanted\.(\w+)", script)) - {"text"} | {"text"}
    attributes = set(rows_of_gallery()[0].attrib)
    assert {f"data-{name}" for name in re.findall(r"row\.dataset\.(\w+)", script)} == attributes
    operators = {row.get("data-operator") for row in rows_of_gallery()}
    assert operators == {"LSTM", "GRU", "RNN", "Scan"}


def test_searches_find_titles_and_no_text_of_drawings():
    page = cells.write_page(kg.presets["mgu"])
    assert "\n# mgu: minimal gated unit\n\nOne gate resets and writes.\n" in page
    assert "boost: 50" in page  # before mgu1, mgu2 and mgu3
    assert "boost" not in cells.write_page(kg.presets["mgu1"])
    for text in (page, gallery.write_gallery()):
        figures = re.findall(r"<figure[^>]*>", text)
        assert figures and all("data-search-exclude" in figure for figure in figures)


# Charts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True])
def test_charts_show_the_measured_numbers(dark):
    results = {name: measured.results(name) for name in charts.BACKENDS}
    times = results["tensorflow"]["sizes"][charts.SIZE]["train"]
    chart = charts.draw_speed(results["tensorflow"], dark)
    texts = ["".join(text.itertext()) for text in ET.fromstring(chart).iter() if "text" in text.tag]
    for name, label in charts.LAYERS.items():
        assert label in texts and f"{1e3 * times[name]:.1f} ms" in texts
    ink = (charts.DARK if dark else charts.LIGHT).ink
    ratios = charts.draw_ratios(results, dark)
    for svg in (chart, ratios):
        assert ink in svg and "<dc:date>" not in svg and len(svg) < 40_000
    assert charts.draw_ratios(results, dark) == ratios  # the same numbers, the same file


def test_ratios_of_a_chart_are_those_of_the_page():
    (first, *_) = charts._ratios(measured.results("tensorflow"))
    page = (DOCS / "speed" / "tensorflow.md").read_text(encoding="utf-8")
    row = re.search(r"\| GatedLSTM against keras LSTM \|(.*)\|", page)[1].split("|")
    assert [f"{ratio:.2f}" for ratio in first] == [cell.strip() for cell in row[: len(first)]]


# Which cell should I use? -----------------------------------------------------------------------


def test_numbers_on_which_cell_to_use_are_those_of_the_results():
    wins = 0
    for (study, task), words in which_cell.TASKS.items():
        table = (DOCS / "results" / study / "page.md").read_text(encoding="utf-8")
        rows = [[c.strip() for c in row.split("|")] for row in table.splitlines() if "| " in row]
        tests = {row[2]: float(row[6]) for row in rows if row[1:2] == [task] and len(row) == 11}
        names = {"GRU": "gru", "LSTM": "lstm", "lstm_peephole": "lstm"}
        tests = {names.get(cell, cell): score for cell, score in tests.items()}
        wins += tests["gru"] < tests["lstm"]
        assert words in which_cell.task_table()
    assert which_cell.gru_against_lstm() == f"{wins} of {len(which_cell.TASKS)}"
    assert "`lstm`" in which_cell.fused_presets() and "`mgu`" not in which_cell.fused_presets()
    assert which_cell.gpu_wins() == "`janet` at 5 of 5 and `mgu` at 2 of 5 sizes"
    page = (DOCS / "speed" / "long_sequences.md").read_text(encoding="utf-8")
    time = re.search(r"\| GatedLSTM \| *[\d,]+ \| *[\d,]+ \| *([\d,]+) \|", page)[1]
    assert f"GatedLSTM {time} ms, " in which_cell.long_sentence()
    device = (DOCS / "speed" / "device.md").read_text(encoding="utf-8")
    step = re.search(r"\| lstm \| ([\d.]+)", device)[1]
    assert f"`lstm` {1000 * float(step):.0f} µs" in which_cell.stream_steps()


def test_the_page_on_which_cell_to_use_links_to_cells_that_are_there():
    page = (DOCS / "guides" / "which-cell.md").read_text(encoding="utf-8")
    filled = inserts.fill_inserts(page)
    names = re.findall(r"\.\./cells/(\w+)\.md", filled)
    assert names and set(names) <= {*kg.presets, "index"}
    assert "<!--" not in filled
    filters = set(re.findall(r'name="(\w+)"', gallery.write_gallery()))
    for query in re.findall(r"cells/index\.md\?([^)]*)", filled):
        for part in query.split("&"):
            key, value = part.split("=")
            assert key in filters or (key == "sort" and value in gallery.COLUMNS)


# Studies ----------------------------------------------------------------------------------------


def test_the_overview_has_every_study_with_question_answer_and_figure():
    overview = studies.overview()
    for name in studies.names():
        assert f"]({name}/page.md)" in overview
    assert overview.count("?**") == len(studies.names())
    for file in re.findall(r"\]\((\w+/[\w-]+\.svg)", overview):
        assert (studies.RESULTS / file).is_file()


@pytest.mark.parametrize("name", studies.names())
def test_a_study_begins_with_the_answer_and_a_figure_and_folds_its_tables(name):
    page = (studies.RESULTS / name / "page.md").read_text(encoding="utf-8")
    answer = page.split("\n\n")[1]
    assert answer.startswith("**") and answer.count("\n") < 3
    assert page.split("\n\n")[2].startswith("![")
    figures = re.findall(r"!\[.*?\]\(([\w-]+)\.svg\)", page)
    dark, paired = studies.dark_figures(), studies.show_both(page)
    assert figures
    for figure in figures:
        assert f"({figure}.svg#only-light)" in paired and f"({figure}-dark.svg#only-dark)" in paired
        svg = dark[f"results/{name}/{figure}-dark.svg"]
        ET.fromstring(svg)
        assert not any(light in svg for light in ("#ffffff", "#222222", "#0072b2"))
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    folded = re.findall(r"<details[^>]*>\n<summary>.*</summary>\n\n(?:\|.*\n)+\n</details>", page)
    assert 0 < len(folded) >= len(tables) - 1  # comments may have a small one


def test_a_colour_without_a_dark_one_is_found():
    raises(lambda: studies.in_dark_colours('fill="#123456"'), "#123456", KeyError)


def test_a_study_without_a_question_is_found(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "page.md").write_text("# Mine\n\nIt went well.\n\n")
    monkeypatch.setattr(studies, "RESULTS", tmp_path)
    raises(studies.overview, "question in bold...docs/results/mine/page.md", ValueError)


def test_no_page_is_twice_in_the_navigation():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = re.findall(r"([\w/-]+\.md)$", config.partition("\nnav:\n")[2], re.MULTILINE)
    assert len(pages) > 20 and len(set(pages)) == len(pages)
