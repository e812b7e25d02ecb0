"""Draws the picture of the first page: the formula, and which of its parts some cells have.

h = o × φ( f × c + i × g( W x + U (r × h) + b ))
"""

from collections.abc import Iterator

from keras_gated.spec.normal_form import NormalForm, resolve
from keras_gated.spec.preset_lookup import presets
from site_pages.diagram import gate_kind, gate_value
from site_pages.svg import box, picture, text

CELLS = ("lstm", "gru_cho", "elman", "nfg", "cifg", "mgu", "janet", "min_gru")
GATES = ("output", "forget", "input", "reset")
ROW, WIDTH = 50, 500
# x of each part of the formula, the same in each row. Gates end there, other parts begin there.
AT = {
    "h": 6,
    "output": 82,
    "φ": 86,
    "forget": 166,
    "memory": 170,
    "+": 206,
    "input": 284,
    "g": 288,
    "x": 306,
    "U": 344,
    "reset": 396,
    "state": 400,
    ")": 430,
    "bias": 442,
    "end": 474,
}


def draw_idea() -> str:
    """Returns the picture as an `<svg>`."""
    rows = (part for k, name in enumerate(CELLS) for part in _draw_row(name, 4 + k * ROW))
    title = "The formula, and which of its parts are used in " + ", ".join(CELLS)
    return picture(WIDTH, 4 + ROW * len(CELLS), title, rows, "cell idea")


def _draw_row(name: str, top: float) -> Iterator[str]:
    yield text(2, top + 13, f"{name}: {presets[name].title}", "small", "start")
    yield box("row", WIDTH / 2, top + 31, WIDTH, 26)
    for part, (label, kind) in _parts(resolve(presets[name].spec)).items():
        anchor = "end" if part in GATES else "start"
        yield text(AT[part], top + 36, label, f"{kind}-text", anchor)


def _parts(form: NormalForm) -> dict[str, tuple[str, str]]:
    """The label of each part, and whether it is on, off or tied."""
    block = form.candidate
    has_memory = _on(form.gates["forget"].constant != 0.0)
    has_recurrence = _on(block.recurrent_kernel)
    memory = "c" if form.memory == "cell" else "h"
    return {
        **{name: _gate(form, name) for name in GATES},
        "h": ("h_{t} =", "on"),
        "φ": ("φ(", _on(form.output_activation != "linear")),
        "memory": (f"{memory}_{{t-1}}", has_memory),
        "+": ("+", has_memory),
        "g": ("g(", _on(block.activation != "linear")),
        "x": ("W x_{t}", _on(block.kernel)),
        "U": ("+ U(", has_recurrence),
        "state": ("h_{t-1}", has_recurrence),
        ")": (")", has_recurrence),
        "bias": ("+ b", _on(block.use_bias)),
        "end": ("))", "on"),
    }


def _gate(form: NormalForm, name: str) -> tuple[str, str]:
    value = form.gates[name]
    kind = gate_kind(name, value)
    label = gate_value(value) if kind == "tied" else name[0]
    return (f"({label}) ×" if value.complement else f"{label} ×"), kind


def _on(is_used) -> str:
    return "on" if is_used else "off"
