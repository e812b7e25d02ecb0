"""The picture of the first page: one formula, and which of its parts each cell has.

h = o × φ( f × c + i × g( W x + U (r × h) + b ))
"""

from collections.abc import Iterator

from keras_gated.spec.normal_form import NormalForm, resolve
from keras_gated.spec.presets import presets
from site_pages.diagram import gate_kind, gate_value
from site_pages.svg import box, picture, text

CELLS = ("lstm", "gru_cho", "elman", "nfg", "cifg", "mgu", "janet", "min_gru")
GATES = ("output", "forget", "input", "reset")
ROW, WIDTH = 50, 500
# Where the parts of the formula stand, in each row in the same place: gates end there.
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


def idea() -> str:
    """Returns the picture, an `<svg>`."""
    rows = (part for k, name in enumerate(CELLS) for part in _row(name, 4 + k * ROW))
    title = "One formula, and which of its parts are on in " + ", ".join(CELLS)
    return picture(WIDTH, 4 + ROW * len(CELLS), title, rows, "cell idea")


def _row(name: str, top: float) -> Iterator[str]:
    yield text(2, top + 13, f"{name}: {presets[name].title}", "small", "start")
    yield box("row", WIDTH / 2, top + 31, WIDTH, 26)
    for part, (written, kind) in _parts(resolve(presets[name].spec)).items():
        anchor = "end" if part in GATES else "start"
        yield text(AT[part], top + 36, written, f"{kind}-text", anchor)


def _parts(form: NormalForm) -> dict[str, tuple[str, str]]:
    """What stands in each place, and whether it is on, off or tied."""
    block = form.candidate
    kept = _on(form.gates["forget"].constant != 0.0)
    seen = _on(block.recurrent_kernel)
    memory = "c" if form.memory == "cell" else "h"
    return {
        **{name: _gate(form, name) for name in GATES},
        "h": ("h_{t} =", "on"),
        "φ": ("φ(", _on(form.output_activation != "linear")),
        "memory": (f"{memory}_{{t-1}}", kept),
        "+": ("+", kept),
        "g": ("g(", _on(block.activation != "linear")),
        "x": ("W x_{t}", _on(block.kernel)),
        "U": ("+ U(", seen),
        "state": ("h_{t-1}", seen),
        ")": (")", seen),
        "bias": ("+ b", _on(block.use_bias)),
        "end": ("))", "on"),
    }


def _gate(form: NormalForm, name: str) -> tuple[str, str]:
    value = form.gates[name]
    kind = gate_kind(name, value)
    followed = gate_value(value) if kind == "tied" else name[0]
    return (f"({followed}) ×" if value.complement else f"{followed} ×"), kind


def _on(there) -> str:
    return "on" if there else "off"
