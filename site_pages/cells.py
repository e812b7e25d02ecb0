"""A page for each preset, written in Markdown from the catalogue."""

import re

import keras_gated as kg
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import find_native_operator
from keras_gated.spec.preset_lookup import Preset
from site_pages import measured
from site_pages.counts import count_formula, shape_formula
from site_pages.diagram import draw_cell, draw_legend
from site_pages.spec_code import spec_as_code

SIZE = {"input_dim": 64, "units": 64}  # equal, because some cells need as many inputs as units
FAMILIES = {
    "base": "LSTM, GRU and simple RNN",
    "greff": "One part of the LSTM removed",
    "jozefowicz": "Found by search",
    "slim": "Gates with fewer weights",
    "minimal": "One or two gates",
    "additive": "Linear and additive memories",
    "parallel": "Parallel over time",
    "modern": "Of recent years",
}


def by_family() -> dict[str, list[Preset]]:
    """Returns the presets by the title of their family, in the catalogue's order."""
    families: dict[str, list[Preset]] = {}
    for preset in kg.presets.values():
        families.setdefault(FAMILIES.get(preset.family, preset.family), []).append(preset)
    return families


def write_pages() -> dict[str, str]:
    """Returns the text of the page of each preset, by its path."""
    return {f"cells/{preset.name}.md": write_page(preset) for preset in kg.presets.values()}


def draw_preset(preset: Preset) -> str:
    """Returns the drawing of a preset as an `<svg>`."""
    return draw_cell(resolve(preset.spec), f"The cell {preset.name}: {preset.title}")


def figure(svg: str, kind: str = "") -> list[str]:
    """Returns the lines of a figure with a drawing. Searches do not find its text."""
    return [f'<figure class="drawn {kind}" data-search-exclude="">', svg, "</figure>"]


def lower_indices(text: str) -> str:
    """Returns a text with the index of x_t as HTML."""
    return re.sub(r"\b([xhc])_t\b", r"\1<sub>t</sub>", text)


# One cell ---------------------------------------------------------------------------------------


def write_page(preset: Preset) -> str:
    """Returns the page of a preset."""
    title, _, more = lower_indices(preset.title).partition(": ")
    lines = [
        *_boost(preset.name),
        f"# {preset.name}: {title}",
        "",
        *([f"{more[0].upper()}{more[1:]}.", ""] if more else []),
        *figure(draw_preset(preset), "wide"),
        "",
        "## Equations",
        "",
        f"$$\n{kg.equations(preset.name)}\n$$",
        "",
        "$i$, $f$, $r$, $o$ are the input, forget, reset and output gates; a product $\\odot$ is "
        "unit by unit; $W$ and $U$ are dense kernels, $U^{(k)}$ is one of $k$ blocks on the "
        "diagonal, $w$ and $u$ are diagonal ones, $p$ peepholes." + _rare_letters(preset),
        "",
        "## Weights",
        "",
        *_weights(preset),
        "",
        "## Facts",
        "",
        *_table(["", ""], _facts(preset)),
        "",
        "## In code",
        "",
        *_code(preset),
        "",
        "The marks in the diagram:",
        "",
        *figure(draw_legend(), "wide"),
    ]
    return "\n".join(lines) + "\n"


def _boost(name: str) -> list[str]:
    """Front matter of a cell whose name begins other names: a search for "mgu" finds it first."""
    longer = [other for other in kg.presets if other.startswith(name) and other != name]
    return ["---", "search:", "  boost: 50", "---", ""] if longer else []


RARE_LETTERS = {  # what a formula has that uses a letter, and the letter's meaning
    "m_t": "$n$ is the normaliser of $c$, and $m$ the stabiliser, which cancels in $c / n$",
    "s_t": "$s$ scales what is written",
    "q_t": "$q$ are the products that gate and candidate share",
    r"\lambda": r"$\lambda$ is a trained vector",
    r"\zeta": r"$\zeta$ and $\nu$ are trained numbers",
}


def _rare_letters(preset: Preset) -> str:
    """The meanings of letters that few formulas have, to be put behind those of the others."""
    formula = kg.equations(preset.name)
    return "".join(f" {text}." for letter, text in RARE_LETTERS.items() if letter in formula)


def _facts(preset: Preset) -> list[list[str]]:
    form = resolve(preset.spec)
    source = "an author's or an independent implementation"
    checked = (
        f"Checked against {source}."
        if preset.confirmed
        else f"Recalled from the paper; not checked against {source}."
    )
    rows = {
        "States": ", ".join(f"${name}$" for name in form.states),
        "Parameters": _count_text(kg.count_parameters, preset),
        "FLOPs, a time step": _count_text(kg.count_flops, preset),
        "ONNX": _operator_text(preset),
        "Measured": measured.time_sentence(preset.name),
        "Paper": preset.paper,
        "Formula": checked,
        "Initial bias": preset.initial_bias,
        "Implementations disagree": preset.notes or "Nothing known.",
    }
    return [[f"**{name}**", fact] for name, fact in rows.items()]


def _count_text(count, preset: Preset) -> str:
    square = bool(resolve(preset.spec).square)
    where = "$n$ inputs and $n$ units" if square else "$m$ inputs and $n$ units"
    at = f"{count(preset.name, **SIZE):,} with {SIZE['input_dim']} and {SIZE['units']}"
    return f"${count_formula(count, preset.name, square)}$ with {where}; {at}"


def _operator_text(preset: Preset) -> str:
    lowering = find_native_operator(resolve(preset.spec))
    if lowering.operator:
        return f"`{lowering.operator}`: {lowering.reason}"
    return f"`Scan`, since {lowering.reason}"


def _weights(preset: Preset) -> list[str]:
    form = resolve(preset.spec)
    rows = [[f"`{w.name}`", shape_formula(w, form), ", ".join(w.blocks)] for w in form.weights]
    return _table(["in this order", "shape", "of"], rows)


def _code(preset: Preset) -> list[str]:
    calls = [f'layer = kg.GatedRNN(64, "{preset.name}", return_sequences=True)']
    if preset.arguments:
        arguments = ", ".join(f"{name}={value!r}" for name, value in preset.arguments.items())
        calls.append(f'spec = kg.preset("{preset.name}", {arguments})   # its arguments')
    spec = f"spec = {spec_as_code(preset.spec)}"
    return ["```python", "import keras_gated as kg", "", *calls, spec, "```"]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
