"""The gallery of all presets and a page for each, in Markdown, from the catalogue alone."""

import keras_gated as kg
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import lower
from keras_gated.spec.presets import Preset
from site_pages import measured
from site_pages.counts import formula, shape
from site_pages.diagram import diagram, legend
from site_pages.spec_code import weight_layout

SIZE = {"input_dim": 64, "units": 64}  # alike, since some cells see each input one to one
FAMILIES = {
    "base": "LSTM, GRU and simple RNN",
    "greff": "One part of the LSTM removed",
    "jozefowicz": "Found by search",
    "slim": "Gates with fewer weights",
    "minimal": "One or two gates",
    "additive": "Linear and additive memories",
    "parallel": "Parallel over time",
}


def by_family() -> dict[str, list[Preset]]:
    """Returns the presets by the title of their family, in the catalogue's order."""
    found: dict[str, list[Preset]] = {}
    for known in kg.presets.values():
        found.setdefault(FAMILIES.get(known.family, known.family), []).append(known)
    return found


def pages() -> dict[str, str]:
    """Returns the text of each page by the place where it stands."""
    return {"cells/index.md": gallery()} | {
        f"cells/{known.name}.md": page(known) for known in kg.presets.values()
    }


# The gallery ------------------------------------------------------------------------------------


def gallery() -> str:
    """Returns the page with all presets."""
    lines = [
        "# All cells",
        "",
        f"The {len(kg.presets)} presets, drawn from their specifications. In each drawing the "
        "memory runs from left to right at the top; below it is what each gate and the candidate "
        "see. A name leads to the equations, weights, counts and paper of the cell. Numbers of "
        f"weights are for {SIZE['units']} units and {SIZE['input_dim']} inputs. Times are of a "
        f"training step at (batch, time, inputs, units) = {measured.SIZE}, if the cell "
        "[was measured](../speed/tensorflow.md).",
        "",
        *_figure(legend(), "wide"),
    ]
    for title, members in by_family().items():
        lines += ["", f"## {title}", "", '<div class="gallery" markdown="1">']
        lines += [line for known in members for line in _card(known)]
        lines += ["</div>"]
    return "\n".join(lines) + "\n"


def _card(known: Preset) -> list[str]:
    operator = lower(resolve(known.spec)).operator or "Scan"
    count = kg.count_parameters(known.name, **SIZE)
    facts = f"{count:,} weights · ONNX {operator} · {measured.short(known.name)}"
    return [
        '<div class="card" markdown="1">',
        *_figure(_diagram(known)),
        "",
        f"**[{known.name}]({known.name}.md)** {known.title}",
        "",
        f"{facts}",
        "{ .facts }",
        "",
        "</div>",
    ]


def _diagram(known: Preset) -> str:
    return diagram(resolve(known.spec), f"The cell {known.name}: {known.title}")


def _figure(svg: str, kind: str = "") -> list[str]:
    return [f'<figure class="drawn {kind}">', svg, "</figure>"]


# One cell ---------------------------------------------------------------------------------------


def page(known: Preset) -> str:
    """Returns the page of a preset."""
    lines = [
        f"# {known.name}",
        "",
        f"{known.title[0].upper()}{known.title[1:]}.",
        "",
        *_figure(_diagram(known), "wide"),
        "",
        "## Equations",
        "",
        f"$$\n{kg.equations(known.name)}\n$$",
        "",
        "$i$, $f$, $r$, $o$ are the input, forget, reset and output gates; a product $\\odot$ is "
        "unit by unit; $W$ and $U$ are dense kernels, $w$ and $u$ diagonal ones, $p$ peepholes.",
        "",
        "## Weights",
        "",
        *_weights(known),
        "",
        "## Facts",
        "",
        *_table(["", ""], _facts(known)),
        "",
        "## In code",
        "",
        *_code(known),
        "",
        "The marks in the diagram:",
        "",
        *_figure(legend(), "wide"),
    ]
    return "\n".join(lines) + "\n"


def _facts(known: Preset) -> list[list[str]]:
    form = resolve(known.spec)
    source = "an author's or an independent implementation"
    checked = (
        f"Checked against {source}."
        if known.confirmed
        else f"Recalled from the paper; not checked against {source}."
    )
    rows = {
        "States": ", ".join(f"${name}$" for name in form.states),
        "Parameters": _counted(kg.count_parameters, known),
        "FLOPs, a time step": _counted(kg.count_flops, known),
        "ONNX": _operator(known),
        "Measured": measured.sentence(known.name),
        "Paper": known.paper,
        "Formula": checked,
        "Initial bias": known.initial_bias,
        "Implementations disagree": known.notes or "Nothing known.",
    }
    return [[f"**{name}**", fact] for name, fact in rows.items()]


def _counted(count, known: Preset) -> str:
    square = bool(resolve(known.spec).square)
    where = "$n$ inputs and $n$ units" if square else "$m$ inputs and $n$ units"
    at = f"{count(known.name, **SIZE):,} with {SIZE['input_dim']} and {SIZE['units']}"
    return f"${formula(count, known.name, square)}$ with {where}; {at}"


def _operator(known: Preset) -> str:
    found = lower(resolve(known.spec))
    return (
        f"`{found.operator}`: {found.reason}" if found.operator else f"`Scan`, since {found.reason}"
    )


def _weights(known: Preset) -> list[str]:
    form = resolve(known.spec)
    rows = [[f"`{w.name}`", shape(w, form), ", ".join(w.blocks)] for w in form.weights]
    return _table(["in this order", "shape", "of"], rows)


def _code(known: Preset) -> list[str]:
    calls = [f'layer = kg.GatedRNN(64, "{known.name}", return_sequences=True)']
    if known.arguments:
        given = ", ".join(f"{name}={value!r}" for name, value in known.arguments.items())
        calls.append(f'spec = kg.preset("{known.name}", {given})   # its arguments')
    written = f"spec = {weight_layout(known.spec)}"
    return ["```python", "import keras_gated as kg", "", *calls, written, "```"]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
