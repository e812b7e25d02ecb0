"""Writes the strip of formulas of the first page: which parts of the formula some cells have.

h = o × φ( f × c + i × g( W x + U( r × h ) + b ) )

It is a table with a column for each part, so that the browser gives each as much room as it needs.
"""

from collections.abc import Iterator
from html import escape

from keras_gated.spec.normal_form import NormalForm, resolve
from keras_gated.spec.preset_lookup import presets
from site_pages.diagram import gate_kind, gate_value

CELLS = ("lstm", "gru_cho", "elman", "nfg", "cifg", "mgu", "janet", "min_gru")
Part = tuple[str, str]  # HTML; "on", "off" or "tied"
TIGHT = ("φ", "g", "U")  # parts that a bracket follows without a gap


def write_idea() -> str:
    """Returns the strip as a `<table>`."""
    title = "The formula, and which of its parts are used in " + ", ".join(CELLS)
    rows = "".join(row for name in CELLS for row in _rows(name))
    return f'<table class="idea" aria-label="{escape(title)}">{rows}</table>'


def _rows(name: str) -> Iterator[str]:
    parts = _parts(resolve(presets[name].spec))
    cells = "".join(
        f'<td class="{kind}{" tight" if text in TIGHT else ""}">{text}</td>' for text, kind in parts
    )
    text = f"<b>{name}</b>: {escape(presets[name].title)}"
    yield f'<tr class="name"><th colspan="{len(parts)}">{text}</th></tr>'
    yield f'<tr class="formula">{cells}</tr>'


def _parts(form: NormalForm) -> list[Part]:
    """The parts in the order of the formula. A bracket is faint if nothing needs it."""
    block, gates = form.candidate, {name: _gate(form, name) for name in form.gates}
    has_memory = _on(form.gates["forget"].constant != 0.0)
    has_recurrence = _on(block.recurrent_kernel)
    output, candidate = form.output_activation != "linear", block.activation != "linear"
    around_all = _on(output or gates["output"][1] != "off")
    around_candidate = _on(candidate or gates["input"][1] != "off")
    around_state = _on(block.recurrent_kernel and gates["reset"][1] != "off")
    memory = "c" if form.memory == "cell" else "h"
    return [
        ("h<sub>t</sub> =", "on"),
        gates["output"],
        ("φ", _on(output)),
        ("(", around_all),
        gates["forget"],
        (f"{memory}<sub>t−1</sub>", has_memory),
        ("+", has_memory),
        gates["input"],
        ("g", _on(candidate)),
        ("(", around_candidate),
        ("W x<sub>t</sub>", _on(block.kernel)),
        ("+", has_recurrence),
        ("U", has_recurrence),
        ("(", around_state),
        gates["reset"],
        ("h<sub>t−1</sub>", has_recurrence),
        (")", around_state),
        ("+ b", _on(block.use_bias)),
        (")", around_candidate),
        (")", around_all),
    ]


def _gate(form: NormalForm, name: str) -> Part:
    value = form.gates[name]
    kind = gate_kind(name, value)
    label = gate_value(value) if kind == "tied" else name[0]
    return (f"({label}) ×" if value.complement else f"{label} ×"), kind


def _on(is_used) -> str:
    return "on" if is_used else "off"
