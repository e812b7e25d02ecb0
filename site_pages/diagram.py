"""Draws a cell as an SVG picture, from its normal form.

All cells have the same layout, so that pictures can be compared:

- At the top the memory runs from left to right. A × on the line is a product with a gate.
- Below it is a box for each gate and for the candidate.
- At the bottom are lines for what the boxes see: x, h, c, other gates and the bias. A mark on a
  line means that the box above it sees this line; the shape of the mark is the kind of kernel.

Gates that a cell does not have are faint. A gate that follows another has a dashed outline.
"""

from collections.abc import Hashable, Iterator

from keras_gated.spec.activations import Floored, lookup
from keras_gated.spec.equations import LETTER, to_plain_text
from keras_gated.spec.normal_form import Block, GateValue, NormalForm
from site_pages.svg import arc, arrow, box, circle, path, picture, sign, text

COLUMN = {"forget": 122, "input": 212, "candidate": 302, "reset": 392, "output": 488}
LEFT, RIGHT, BRANCH = 46, 540, 436  # x: where lines begin and end, where the output branches off
MEMORY, PRODUCTS, BOX, FIRST_LINE, LINE_STEP = 30, 86, 150, 204, 30  # y, from top to bottom
WIDTH, HEIGHT = 76, 32  # of a box
TOP, BOTTOM = BOX - HEIGHT // 2, BOX + HEIGHT // 2  # y of a box
KINDS = {
    "dense": "dense: sees all",
    "blocks": "blocks: groups",
    "diagonal": "diagonal: its own",
    "identity": "identity: as it is",
}


def draw_cell(form: NormalForm, title: str) -> str:
    """Returns the picture of a cell as an `<svg>`.

    Args:
        form: normal form of the cell.
        title: text for readers who cannot see the picture.
    """
    lines = _input_lines(form)
    heights = {name: FIRST_LINE + LINE_STEP * k for k, name in enumerate(lines)}
    elements = [
        *_draw_input_lines(lines, heights),
        *_draw_memory(form),
        *_draw_output(form),
        *(part for name in COLUMN for part in _draw_box(form, name, heights)),
        *_draw_ties(form),
        *_draw_reset(form, heights["h"]),
    ]
    return picture(580, FIRST_LINE + LINE_STEP * len(lines) - 12, title, elements, "cell")


def draw_legend() -> str:
    """Returns a picture that explains the marks and outlines."""
    rows = (*_explain_marks(), *_explain_outlines())
    return picture(580, 66, "The marks in the diagrams", rows, "cell")


def _explain_marks() -> Iterator[str]:
    for x, (kind, meaning) in zip((12, 128, 238, 368), KINDS.items(), strict=True):
        yield from _draw_mark(x, 16, kind)
        yield text(x + 13, 21, meaning, "small", "start")
    yield from _draw_mark(508, 16, "bias")
    yield text(521, 21, "bias", "small", "start")


def _explain_outlines() -> Iterator[str]:
    meanings = {"on": "weights of its own", "tied": "follows another gate", "off": "constant"}
    for x, (kind, meaning) in zip((20, 200, 390), meanings.items(), strict=True):
        yield box(kind, x, 48, 30, 20)
        yield text(x + 22, 53, meaning, "small", "start")


# At the top: the memory -------------------------------------------------------------------------


def _draw_memory(form: NormalForm) -> Iterator[str]:
    letter = "c" if form.memory == "cell" else "h"
    forget, input_gate = form.gates["forget"], form.gates["input"]
    x = COLUMN["candidate"]
    yield text(LEFT - 6, MEMORY + 5, f"{letter}_{{t-1}}", anchor="end")
    yield path("off" if forget.constant == 0.0 else "on", (LEFT, MEMORY), (x, MEMORY))
    yield arrow("on", (x, MEMORY), (RIGHT, MEMORY))
    yield text(RIGHT + 5, MEMORY + 5, f"{letter}_{{t}}", anchor="start")
    yield from _draw_activation(form.carry_activation, (LEFT + COLUMN["forget"]) / 2, MEMORY)
    yield from _draw_activation(form.memory_activation, COLUMN["reset"] - 30, MEMORY)
    yield path("on", (x, TOP), (x, MEMORY))
    if form.input_scale:
        yield from _draw_activation("linear", x, (MEMORY + PRODUCTS) / 2, "× √(1−f²)")
    if forget.constant != 1.0:
        yield from _draw_product("forget", forget, COLUMN["forget"], MEMORY)
    if input_gate.constant != 1.0:
        yield from _draw_product("input", input_gate, x, PRODUCTS)
    if forget.constant != 0.0:
        yield sign(x, MEMORY, "+")


def _draw_product(name: str, value: GateValue, x: float, y: float) -> Iterator[str]:
    """A product with a gate at (x, y), and the line to it from the box of the gate."""
    column = COLUMN[name]
    turn = () if x == column else ((column, y),)
    end = (x - 10, y) if turn else (x, y + 10)
    yield arrow(gate_kind(name, value), (column, TOP), *turn, end)
    yield sign(x, y, "×")


def _draw_output(form: NormalForm) -> Iterator[str]:
    if form.memory == "hidden":
        return
    value, x = form.gates["output"], COLUMN["output"]
    yield arrow("on", (BRANCH, MEMORY), (BRANCH, PRODUCTS), (RIGHT, PRODUCTS))
    yield circle("on-fill", BRANCH, MEMORY, 3)
    yield text(RIGHT + 5, PRODUCTS + 5, "h_{t}", anchor="start")
    divided = "÷ n" if form.normalizer else ""
    yield from _draw_activation(form.output_activation, BRANCH, (MEMORY + PRODUCTS) / 2, divided)
    if value.constant != 1.0:
        yield from _draw_product("output", value, x, PRODUCTS)
    if form.input_skip:
        right = (x + RIGHT) / 2
        yield path("on", (right, PRODUCTS + 24), (right, PRODUCTS))
        yield sign(right, PRODUCTS, "+")
        yield text(right + 4, PRODUCTS + 36, f"(1−o) {_input_letter(form)}", "small", "start")


def _draw_activation(activation: Hashable, x: float, y: float, before: str = "") -> Iterator[str]:
    """A small box with the activation, and what is done before it; nothing if it is linear."""
    if label := f"{before} {_activation_text(activation)}".strip():
        yield box("on", x, y, 12 + 7 * len(label), 22)
        yield text(x, y + 4, label, "small")


# In the middle: the gates -----------------------------------------------------------------------


def _draw_box(form: NormalForm, name: str, heights: dict[str, float]) -> Iterator[str]:
    x, block = COLUMN[name], form.blocks.get(name)
    if block:
        letter = "c̃" if name == "candidate" else LETTER[name]
        activation = _activation_text(block.activation) or "linear"
        label = f"{letter} exp(−λ{activation})" if block.decay else f"{letter} {activation}"
        label += " / Σ" if name in form.gates and form.gates[name].other else ""
        long = len(label) > 10
        yield box("on", x, BOX, WIDTH + 10 * long, HEIGHT)
        yield text(x, BOX + 5, label, "small" if long else "")
        yield from _draw_marks(block, x, heights)
    else:
        value = form.gates[name]
        absent = name == "output" and form.memory == "hidden"
        kind = gate_kind(name, value)
        label = "none" if absent else f"{LETTER[name]} = {gate_value(value)}"
        long = len(label) > 12
        label = gate_value(value).replace(" ", "\u2009") if long else label  # thin spaces
        yield box(kind, x, BOX, WIDTH + 10 * long, HEIGHT)
        yield text(x, BOX + 5, label, f"{kind}-text{' small' if long else ''}")


def gate_kind(name: str, value: GateValue) -> str:
    """Returns the CSS class of a gate: "on" (it has weights), "tied" or "off" (it is constant)."""
    if value.constant is not None:
        return "off"
    return "on" if value.block == name else "tied"


def gate_value(value: GateValue) -> str:
    """Returns the value of a gate as text: a constant, or the gate that it follows."""
    if not value.block:
        return f"{value.constant:.3g}"
    letter = LETTER[value.block] + ("′" if value.offset or value.other else "")
    text = f"1 − {letter}" if value.complement else letter
    return f"ζ({text}) + ν" if value.trained else text


def _draw_ties(form: NormalForm) -> Iterator[str]:
    for name, value in form.gates.items():
        if value.block not in ("", name):
            yield arc("tied", COLUMN[value.block], COLUMN[name], TOP, 30)
    for name in form.shared:
        yield arc("tied", COLUMN["candidate"], COLUMN[name], TOP, 30)


def _activation_text(activation: Hashable) -> str:
    """The name of an activation, as short as possible; "" if it is linear."""
    if isinstance(activation, Floored):
        return f"{_activation_text(activation.activation)} ≥ {activation.floor:.3g}"
    return to_plain_text(lookup(activation).latex.format("·", g="·")).removesuffix("(·)").strip("·")


# At the bottom: what the boxes see --------------------------------------------------------------


def _input_lines(form: NormalForm) -> dict[str, str]:
    """The lines that boxes can see, by name, with their labels."""
    lines = {"x": _input_letter(form), "h": "h_{t-1}"}
    if form.window > 1:
        lines["x"] = f"x_{{t}} … x_{{t-{form.window - 1}}}"
    blocks = form.blocks.values()
    if any(block.peephole for block in blocks):
        lines["c"] = "c"
    if form.gate_recurrence:
        lines["gates"] = "i f o_{t-1}"
    return lines | ({"b": "1"} if any(block.use_bias for block in blocks) else {})


def _input_letter(form: NormalForm) -> str:
    return "x̂_{t}" if form.projection else "x_{t}"


def _draw_input_lines(lines: dict[str, str], heights: dict[str, float]) -> Iterator[str]:
    for name, label in lines.items():
        yield text(LEFT + 16, heights[name] + 4, label, anchor="end")
        yield path("bus", (LEFT + 22, heights[name]), (RIGHT, heights[name]))


def _draw_marks(block: Block, x: float, heights: dict[str, float]) -> Iterator[str]:
    """The marks of a block on the lines that it sees, and the line from them to its box."""
    marks = {
        "x": block.kernel and block.kernel.name,
        "h": block.recurrent_kernel and block.recurrent_kernel.name,
        "c": "diagonal" if block.peephole else None,
        "gates": "dense" if block.gate_recurrence else None,
        "b": "bias" if block.use_bias else None,
    }
    present = {name: kind for name, kind in marks.items() if kind}
    yield path("on", (x, max(heights[name] for name in present)), (x, BOTTOM))
    for name, kind in present.items():
        yield from _draw_mark(x, heights[name], kind)
    activations = {"x": block.input_activation, "h": block.recurrent_input_activation}
    for name, activation in activations.items():
        if label := _activation_text(activation):
            yield text(x - 11, heights[name] - 5, label, "small", "end")


def _draw_mark(x: float, y: float, kind: str) -> Iterator[str]:
    if kind == "bias":
        yield circle("on-fill", x, y, 4)
    elif kind == "dense":
        yield box("on-fill", x, y, 13, 13)
    else:
        yield box("on", x, y, 13, 13)
        if kind == "blocks":
            yield box("on-fill", x - 3, y - 3, 5, 5)
            yield box("on-fill", x + 3, y + 3, 5, 5)
            return
        ends = ((-5, -5), (5, 5)) if kind == "diagonal" else ((-4, 0), (4, 0))
        yield path("on", *((x + dx, y + dy) for dx, dy in ends))


def _draw_reset(form: NormalForm, y: float) -> Iterator[str]:
    """The line from the reset gate to what it multiplies: the mark of the candidate at height y."""
    if form.reset == "none":
        return
    kind, x, right = gate_kind("reset", form.gates["reset"]), COLUMN["candidate"], COLUMN["reset"]
    if form.reset == "all":
        yield arrow(kind, (right - WIDTH / 2, BOX), (x + WIDTH / 2, BOX))
        yield text((x + right) / 2, BOX - 8, "×", "small")
        return
    between = (x + right) / 2
    yield arrow(kind, (right - WIDTH / 2, BOX), (between, BOX), (between, y - 14), (x + 8, y - 4))
    yield text(between + 4, y - 8, "× h" if form.reset == "before" else "× U h", "small", "start")
