"""Tables for any width, intervals, and figures: every seed is drawn, names are whole."""

import io
import itertools
import json

import matplotlib
import numpy as np
import pytest
from rich.console import Console
from study import curves, dots, figures, ranks, redraw, report
from study.report import scores, significance
from study.sheet import Sheet, read_sheets

import keras_gated as kg
from tests.examples.study_runs import tones
from tests.helpers import raises

CELLS = "lstm_peephole", "niaf", "gru", "elman"
LABELS = dict(zip(CELLS, CELLS, strict=True))
UNITS = {"tones": "nats per time step", "digits": "nats"}


def line(task: str, cell: str, seed: int, score: float) -> dict:
    run = {"task": task, "cell": cell, "seed": seed, "units": 12}
    curve = [score + 2.0 / (epoch + 1) for epoch in range(6 + seed)]
    results = {"train": score, "valid": score, "test": score, "valid_curve": curve}
    return {"run": run, **results, "best_epoch": 3, "updates_per_epoch": 10, "seconds_per_epoch": 1}


def groups(seeds: int = 5) -> dict:
    rng, both = np.random.default_rng(0), itertools.product(UNITS, CELLS)
    return {
        (task, cell): [line(task, cell, seed, 8 + rng.random()) for seed in range(seeds)]
        for task, cell in both
    }


# ------------------------------------------------------------------------------------ intervals


def test_the_interval_holds_zero_if_and_only_if_the_test_does_not_reject():
    rng = np.random.default_rng(1)
    for shift, (one, other) in itertools.product(np.linspace(-3, 3, 25), [(5, 5), (6, 6), (4, 7)]):
        a, b = rng.normal(shift, 1, one).tolist(), rng.normal(0, 1, other).tolist()
        low, high, confidence = ranks.shift_interval(a, b)
        assert (not low <= 0 <= high) == (ranks.rank_test(a, b) < 0.05)
        assert confidence > 0.95


def test_few_seeds_have_an_interval_of_less_confidence():
    assert ranks.shift_interval([5, 6, 7], [1, 2, 3]) == (2, 6, pytest.approx(0.9))
    assert ranks.shift_interval([5], [1]) == (4, 4, 0.0)


def test_ways_are_those_of_all_orders():
    counted = np.zeros(13, int)
    for places in itertools.combinations(range(7), 3):
        counted[sum(places) - 3] += 1
    assert ranks._ways(3, 4) == tuple(counted)


# --------------------------------------------------------------------------------------- tables


def printed(sheet: Sheet, width: int) -> str:
    Console(width=width, file=(file := io.StringIO())).print(sheet.rich(width))
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_name_and_no_number_is_cut(width):
    tasks = {"tones": tones(), "digits": tones()}
    for sheet in (
        scores("a title", groups(), tasks, LABELS),
        significance(groups(), "gru", LABELS),
    ):
        text = printed(sheet, width)
        assert "…" not in text and max(map(len, text.splitlines())) <= width
        dropped = text.partition("the page also has: ")[2]
        for column, head in enumerate(sheet.heads):
            if width == 200 or head not in sheet.optional:
                for row in sheet.rows:
                    assert all(word in text for word in row[column].split()), (head, row)
        assert bool(dropped) == (width < 200 and "updates" in sheet.heads or width == 60)
        assert all(head in sheet.markdown() for head in sheet.heads)


def test_a_table_says_how_many_seeds_would_be_enough():
    assert "take --seeds 5 to see" in significance(groups(3), "gru", LABELS).title
    assert (
        "intervals of 97%; the least p that 5 seeds allow is 0.024"
        == (significance(groups(5), "gru", LABELS).title.partition("; ")[2])
    )


# -------------------------------------------------------------------------------------- figures


def test_titles_are_the_labels():
    assert figures.title_of("niaf", "niaf") == "no input activation function\n(niaf)"
    assert figures.title_of("niaf", "mine") == "mine" == figures.title_of("mine", "mine")
    for name in kg.presets:
        assert max(map(len, figures.title_of(name, name).split("\n"))) <= 30


def test_every_seed_is_drawn_and_an_interval():
    found = groups()
    names = {cell: figures.title_of(cell, cell) for cell in CELLS}
    for axes, task in zip(dots.differences(found, "gru", names, UNITS).axes, UNITS, strict=True):
        points = [c.get_offsets() for c in axes.collections]
        assert sum(map(len, points)) == 5 * len(CELLS)
        base = np.median([r["test"] for r in found[task, "gru"]])
        first = [r["test"] - base for r in found[task, CELLS[0]]]
        np.testing.assert_allclose(np.sort(points[0][:, 0]), np.sort(first))
        ends = [tuple(line.get_xdata()) for line in axes.lines]
        tests = [[r["test"] for r in found[task, cell]] for cell in (CELLS[0], "gru")]
        assert ranks.shift_interval(*tests)[:2] in ends
        low, high = axes.get_xlim()
        assert all(low <= x <= high for group in points for x in group[:, 0])
    labels = [text.get_text() for text in dots.rank_plot(found, names).axes[0].get_yticklabels()]
    assert sorted(labels) == sorted(names.values())


@pytest.mark.parametrize("by_time", [False, True])
def test_every_curve_has_a_panel_and_no_legend_lies_in_one(by_time):
    found = groups()
    figure = curves.learning_curves(found, "gru", LABELS, UNITS, by_time)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == len(found) and not any(axes.get_legend() for axes in figure.axes)
    for axes, group in zip(panels, found.values(), strict=True):
        assert len(axes.lines) == len(group) + 2  # its median, and that of the vanilla cell
        steps = 1 if by_time else 10
        assert max(axes.lines[1].get_xdata()) == steps * max(len(r["valid_curve"]) for r in group)
    assert len(figure.legends) == 1


def test_a_run_that_diverged_does_not_flatten_the_others():
    found = groups()
    found["tones", "elman"][2]["test"] = 1e9
    low, high = dots.differences(found, "gru", LABELS, UNITS).axes[0].get_xlim()
    assert -3 < low < high < 3


def test_tasks_have_different_marks():
    marks = [tuple(dots._mark(number).values()) for number in range(70)]
    assert len(set(marks)) == 70


def test_figures_are_written_for_pages_and_print(tmp_path):
    one = {("tones", cell): groups()["tones", cell][:2] for cell in CELLS[:2]}
    with matplotlib.rc_context(figures.STYLE):
        figures.save(dots.rank_plot(one, LABELS), tmp_path / "ranks")
    assert (tmp_path / "ranks.pdf").read_bytes().startswith(b"%PDF")
    svg = (tmp_path / "ranks.svg").read_text()
    assert all(name in svg for name in CELLS[:2]) and figures.INK in svg


def test_short_numbers_leave_lines_where_they_were():
    long = '<path d="M 1.04 2.06 \nL 3.149 -4.051 \nL 0.96 12.5 \n" x="7.123456"/>'
    short = '<path d="M1 2.1l2.1-6.2-2.1 16.6" x="7.1"/>'
    assert figures.shorten_numbers(long) == short
    curve = '<path d="M 1.25 2.5 \nC 1.25 2.75 3 4 5 6 \nz \n"/>'  # no line: rounded alone
    assert figures.shorten_numbers(curve).count("C") == 1


def test_a_page_is_written_again_from_its_tables(tmp_path):
    sheet = Sheet("a < b; 3 seeds", ["set", "cell", "n"], [["jsb", "gru", ""], ["jsb", "np", "4"]])
    page = tmp_path / "page.md"
    report.write_page(page, "Music", "`A=b python x.py`, today", [sheet], ["![a](a.svg)", "b"])
    first = page.read_text()
    assert read_sheets(first) == [sheet]
    report.rewrite_page(page, ["![a](a.svg)", "b"])
    assert page.read_text() == first
    old = "# Music\n\nText.\n\n`python x.py`, today\n\n**a < b; 3 seeds**\n\n"
    page.write_text(old + first[first.index("| set") : first.index("</details>")])
    (tmp_path / "comments.md").write_text("**Is it?** Yes.\n\n## More\n\nwords\n")
    report.rewrite_page(page, ["![a](a.svg)"])
    parts = page.read_text().split("\n\n")
    assert parts[:4] == ["# Music", "**Is it?** Yes.", "![a](a.svg)", "## More"]
    assert parts[-1] == "`python x.py`, today\n" and read_sheets(page.read_text()) == [sheet]


def test_two_lines_of_one_seed_cannot_be_drawn(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(line("tones", "gru", 0, 1.0)) + '\n{"run": ')
    assert len(redraw.read(path)) == 1
    path.write_text(2 * (json.dumps(line("tones", "gru", 0, 1.0)) + "\n"))
    raises(lambda: redraw.read(path), "two lines of task 'tones', cell 'gru', seed 0")
