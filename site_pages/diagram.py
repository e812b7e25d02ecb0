"""A cell as a picture, from its normal form alone.

All cells are drawn on one plan, so that they can be compared by eye: above, the memory goes from
left to right, a gate's product at each place; below it a box for each gate and the candidate; below
these what each of them sees, a mark where a line is read. What a cell lacks is faint, what follows
another gate has a broken outline.
"""

from collections.abc import Hashable, Iterator

from keras_gated.spec.activations import lookup
from keras_gated.spec.equations import LETTER, to_plain_text
from keras_gated.spec.normal_form import Block, GateValue, NormalForm
from site_pages.svg import arc, arrow, box, circle, path, picture, sign, text

COLUMN = {"forget": 122, "input": 212, "candidate": 302, "reset": 392, "output": 488}
LEFT, RIGHT, SHOWN = 46, 540, 436  # where lines begin and end, and where the output branches off
MEMORY, WRITTEN, BOX, FIRST, STEP = 30, 86, 150, 204, 30  # heights
WIDTH, TALL = 76, 32  # of a box
TOP, BOTTOM = BOX - TALL // 2, BOX + TALL // 2
KINDS = {
    "dense": "dense: sees all",
    "diagonal": "diagonal: each its own",
    "identity": "identity: as it is",
}


def diagram(form: NormalForm, title: str) -> str:
    """Returns a cell's picture.

    Args:
        form: of the cell.
        title: read out to those who do not see it.
    """
    lines = _lines(form)
    at = {name: FIRST + STEP * k for k, name in enumerate(lines)}
    elements = [
        *_buses(lines, at),
        *_memory(form),
        *_output(form),
        *(one for name in COLUMN for one in _column(form, name, at)),
        *_ties(form),
        *_reset(form, at["h"]),
    ]
    return picture(580, FIRST + STEP * len(lines) - 12, title, elements, "cell")


def legend() -> str:
    """Returns a picture of the marks and what they say."""
    rows = (*_marks_explained(), *_outlines_explained())
    return picture(580, 66, "What the marks in the diagrams say", rows, "cell")


def _marks_explained() -> Iterator[str]:
    for x, (kind, told) in zip((12, 152, 330), KINDS.items(), strict=True):
        yield from _mark(x, 16, kind)
        yield text(x + 13, 21, told, "small", "start")
    yield from _mark(490, 16, "bias")
    yield text(503, 21, "bias", "small", "start")


def _outlines_explained() -> Iterator[str]:
    told = {"on": "weights of its own", "tied": "follows another gate", "off": "constant"}
    for x, (kind, said) in zip((20, 200, 390), told.items(), strict=True):
        yield box(kind, x, 48, 30, 20)
        yield text(x + 22, 53, said, "small", "start")


# Above: the memory ------------------------------------------------------------------------------


def _memory(form: NormalForm) -> Iterator[str]:
    letter = "c" if form.memory == "cell" else "h"
    forget, written = form.gates["forget"], form.gates["input"]
    x = COLUMN["candidate"]
    yield text(LEFT - 6, MEMORY + 5, f"{letter}_{{t-1}}", anchor="end")
    yield path("off" if forget.constant == 0.0 else "on", (LEFT, MEMORY), (x, MEMORY))
    yield arrow("on", (x, MEMORY), (RIGHT, MEMORY))
    yield text(RIGHT + 5, MEMORY + 5, f"{letter}_{{t}}", anchor="start")
    yield from _applied(form.carry_activation, (LEFT + COLUMN["forget"]) / 2, MEMORY)
    yield from _applied(form.memory_activation, COLUMN["reset"] - 30, MEMORY)
    yield path("on", (x, TOP), (x, MEMORY))
    if forget.constant != 1.0:
        yield from _gated("forget", forget, COLUMN["forget"], MEMORY)
    if written.constant != 1.0:
        yield from _gated("input", written, x, WRITTEN)
    if forget.constant != 0.0:
        yield sign(x, MEMORY, "+")


def _gated(name: str, value: GateValue, x: float, y: float) -> Iterator[str]:
    """A product at (x, y) with a gate; the line from its box turns where it stands elsewhere."""
    column = COLUMN[name]
    turn = () if x == column else ((column, y),)
    end = (x - 10, y) if turn else (x, y + 10)
    yield arrow(gate_kind(name, value), (column, TOP), *turn, end)
    yield sign(x, y, "×")


def _output(form: NormalForm) -> Iterator[str]:
    if form.memory == "hidden":
        return
    value, x = form.gates["output"], COLUMN["output"]
    yield arrow("on", (SHOWN, MEMORY), (SHOWN, WRITTEN), (RIGHT, WRITTEN))
    yield circle("on-fill", SHOWN, MEMORY, 3)
    yield text(RIGHT + 5, WRITTEN + 5, "h_{t}", anchor="start")
    yield from _applied(form.output_activation, SHOWN, (MEMORY + WRITTEN) / 2)
    if value.constant != 1.0:
        yield from _gated("output", value, x, WRITTEN)


def _applied(activation: Hashable, x: float, y: float) -> Iterator[str]:
    if written := _name(activation):
        yield box("on", x, y, 12 + 7 * len(written), 22)
        yield text(x, y + 4, written, "small")


# In the middle: the gates -----------------------------------------------------------------------


def _column(form: NormalForm, name: str, at: dict[str, float]) -> Iterator[str]:
    x, block = COLUMN[name], form.blocks.get(name)
    if block:
        letter = "c̃" if name == "candidate" else LETTER[name]
        shown = f"{letter} {_name(block.activation) or 'linear'}"
        long = len(shown) > 10
        yield box("on", x, BOX, WIDTH + 10 * long, TALL)
        yield text(x, BOX + 5, shown, "small" if long else "")
        yield from _seen(block, x, at)
    else:
        value = form.gates[name]
        absent = name == "output" and form.memory == "hidden"
        yield box(gate_kind(name, value), x, BOX, WIDTH, TALL)
        shown = "none" if absent else f"{LETTER[name]} = {gate_value(value)}"
        yield text(x, BOX + 5, shown, f"{gate_kind(name, value)}-text")


def gate_kind(name: str, value: GateValue) -> str:
    """How the gate called `name` is drawn."""
    if value.constant is not None:
        return "off"
    return "on" if value.block == name else "tied"


def gate_value(value: GateValue) -> str:
    """A constant, or a gate by the one that it follows."""
    if value.block is None:
        return f"{value.constant:.3g}"
    letter = LETTER[value.block] + ("′" if value.offset else "")
    return f"1 − {letter}" if value.complement else letter


def _ties(form: NormalForm) -> Iterator[str]:
    for name, value in form.gates.items():
        if value.block not in (None, name):
            yield arc("tied", COLUMN[value.block], COLUMN[name], TOP, 30)


def _name(activation: Hashable) -> str:
    """An activation in a few letters; nothing for none."""
    return to_plain_text(lookup(activation).latex.format("·", g="·")).removesuffix("(·)").strip("·")


# Below: what each of them sees ------------------------------------------------------------------


def _lines(form: NormalForm) -> dict[str, str]:
    """What can be read, by name, and how it is written."""
    lines = {"x": "x̂_{t}" if form.projection else "x_{t}", "h": "h_{t-1}"}
    if form.window > 1:
        lines["x"] = f"x_{{t}} … x_{{t-{form.window - 1}}}"
    blocks = form.blocks.values()
    if any(block.peephole for block in blocks):
        lines["c"] = "c"
    if form.gate_recurrence:
        lines["gates"] = "i f o_{t-1}"
    return lines | ({"b": "1"} if any(block.use_bias for block in blocks) else {})


def _buses(lines: dict[str, str], at: dict[str, float]) -> Iterator[str]:
    for name, written in lines.items():
        yield text(LEFT + 16, at[name] + 4, written, anchor="end")
        yield path("bus", (LEFT + 22, at[name]), (RIGHT, at[name]))


def _seen(block: Block, x: float, at: dict[str, float]) -> Iterator[str]:
    """The marks where a block reads a line, and the line that leads them to its box."""
    marks = {
        "x": block.kernel,
        "h": block.recurrent_kernel,
        "c": "diagonal" if block.peephole else None,
        "gates": "dense" if block.gate_recurrence else None,
        "b": "bias" if block.use_bias else None,
    }
    found = {name: kind for name, kind in marks.items() if kind}
    yield path("on", (x, max(at[name] for name in found)), (x, BOTTOM))
    for name, kind in found.items():
        yield from _mark(x, at[name], kind)
    inside = {"x": block.input_activation, "h": block.recurrent_input_activation}
    for name, activation in inside.items():
        if written := _name(activation):
            yield text(x - 11, at[name] - 5, written, "small", "end")


def _mark(x: float, y: float, kind: str) -> Iterator[str]:
    if kind == "bias":
        yield circle("on-fill", x, y, 4)
    elif kind == "dense":
        yield box("on-fill", x, y, 13, 13)
    else:
        yield box("on", x, y, 13, 13)
        ends = ((-5, -5), (5, 5)) if kind == "diagonal" else ((-4, 0), (4, 0))
        yield path("on", *((x + dx, y + dy) for dx, dy in ends))


def _reset(form: NormalForm, y: float) -> Iterator[str]:
    """From the reset gate to the term of the candidate that it multiplies, which reads at y."""
    if form.reset == "none":
        return
    kind, x, right = gate_kind("reset", form.gates["reset"]), COLUMN["candidate"], COLUMN["reset"]
    between = (x + right) / 2
    yield arrow(kind, (right - WIDTH / 2, BOX), (between, BOX), (between, y - 14), (x + 8, y - 4))
    yield text(between + 4, y - 8, "× h" if form.reset == "before" else "× U h", "small", "start")
