"""The gallery: a table of all presets that docs/javascripts/cells.js sorts and filters."""

from collections.abc import Iterator
from html import escape

import keras_gated as kg
from keras_gated.spec.preset_lookup import Preset
from site_pages import measured
from site_pages.cells import SIZE, by_family, draw_preset, figure, lower_indices
from site_pages.diagram import draw_legend

COLUMNS = {  # key: head
    "cell": "Cell",
    "weights": "Weights",
    "bytes": "ONNX file",
    "operator": "Operator",
    "train": "Training step",
    "onnx": "Run in ONNX",
    "states": "States",
    "parallel": "Parallel in time",
}
PARALLEL = {"scan": "yes", "newton": "Newton", "": "–"}
SHARES = {"0.75": "three quarters", "0.5": "half", "0.25": "a quarter"}


def write_gallery() -> str:
    """Returns the page with all presets."""
    head = "".join(f'<th scope="col" data-key="{key}">{head}</th>' for key, head in COLUMNS.items())
    rows = (_row(preset, title) for title, members in by_family().items() for preset in members)
    lines = [
        "---",
        "hide: [toc]",
        "---",
        "",
        "# All cells",
        "",
        f"{len(kg.presets)} presets, each with a page: equations, drawing, weights, paper. "
        "[Which cell should I use?](../guides/which-cell.md) has the short answer.",
        "",
        f"Weights and bytes are of one layer with {SIZE['input_dim']} inputs and {SIZE['units']} "
        "units. A time is a share of that of `keras.layers.LSTM`, measured in the same turns: a "
        "training step under XLA on a CPU, and a sequence of 100 time steps at batch 1 in "
        "onnxruntime ([all times, machine and versions](../speed/cells.md)). Parallel in time: "
        "`time_parallel=True` computes all time steps at once, exactly (yes) or in a few "
        "iterations (Newton).",
        "",
        _controls(),
        '<div class="cells">',
        '<input type="checkbox" id="drawings" name="drawings" form="filters">',
        '<label for="drawings"> with drawings</label>',
        *figure(draw_legend(), "wide legend"),
        '<table class="cells" data-search-exclude="">',
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *rows,
        "</tbody>",
        "</table>",
        "</div>",
    ]
    return "\n".join(lines) + "\n"


def _controls() -> str:
    """The filters. They are hidden until the script shows them."""
    operators = ("LSTM", "GRU", "RNN", "Scan")
    parts = [
        '<input type="search" name="text" placeholder="name or title" aria-label="name or title">',
        _choice("family", "any family", {title: title for title in by_family()}),
        _choice("operator", "any ONNX operator", {name: name for name in operators}),
        _choice(
            "weights",
            "any number of weights",
            {k: f"at most {v} of an LSTM's" for k, v in SHARES.items()},
        ),
        _choice(
            "states",
            "any number of states",
            {"1": "one state", "2": "two states", "3": "three or more"},
        ),
        '<label><input type="checkbox" name="parallel" value="1"> parallel in time</label>',
        "<output></output>",
    ]
    return f'<form class="cells" id="filters" hidden>{"".join(parts)}</form>'


def _choice(name: str, none: str, choices: dict[str, str]) -> str:
    options = [f'<option value="">{none}</option>']
    options += [f'<option value="{escape(k)}">{escape(v)}</option>' for k, v in choices.items()]
    return f'<select name="{name}" aria-label="{name}">{"".join(options)}</select>'


def _row(preset: Preset, family: str) -> str:
    facts = measured.cell_facts(preset.name)
    data = {"family": family} | {key: facts[key] for key in ("operator", "states", "parallel")}
    data["weights"] = f"{facts['weights'] / measured.cell_facts('lstm')['weights']:.4f}"
    attributes = "".join(f' data-{key}="{escape(str(value))}"' for key, value in data.items())
    return f"<tr{attributes}>{''.join(_cells(preset, facts))}</tr>"


def _cells(preset: Preset, facts: dict) -> Iterator[str]:
    name = preset.name
    link = f'<a href="{name}/"><b>{name}</b>: {lower_indices(escape(preset.title))}</a>'
    drawing = "".join(figure(draw_preset(preset)))
    yield f'<th scope="row" data-value="{name}">{link}{drawing}</th>'
    texts = {
        "weights": f"{facts['weights']:,}",
        "bytes": f"{facts['bytes'] / 1000:.1f} kB",
        "operator": facts["operator"],
        "train": f"{facts['train']:.2f}",
        "onnx": f"{facts['onnx']:.2f}",
        "states": str(facts["states"]),
        "parallel": PARALLEL[facts["parallel"]],
    }
    for key, text in texts.items():
        data = f'data-key="{key}" data-head="{COLUMNS[key]}" data-value="{facts[key]}"'
        yield f"<td {data}>{text}</td>"
