"""Groups what `python -m benchmarks.runtimes` measured, and writes the page."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.report import heading, table
from keras_gated.onnx.runtimes import RUNTIMES, Runtime, reason_against_operator
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import DEFAULT_FUNCTIONS, find_native_operator
from keras_gated.spec.preset_lookup import preset as find_preset

FORMS = {
    "native": "native node",
    "whole": "native node, `compact=False`",
    "scan": "Scan",
    "int8": "int8",
}
# What is refused, by a pattern of the error.
REASONS = {
    r"Unknown activation function: \w+": "a native node with an activation of another name",
    r"DynamicQuantizeLSTM peephole input 'P' is not supported": "an int8 LSTM with peepholes",
    r"Node type 'DynamicQuantizeLSTM'": "an int8 LSTM",
    r"Unimplemented\(DynamicQuantizeLSTM\)": "an int8 LSTM",
    r"Non constant seq_len is not supported": "a native node with a mask",
    r"Clashing resolution for expression": "a native LSTM without an initial state whose sequence "
    "and last memory are both outputs",
    r"Condition failed: .*count\(\)": "a Scan with a state that its body does not read",
}
VERDICTS = ("right", "wrong", "refused")
TEXT = (
    "Each preset has 32 units and random weights, and runs on a batch of 3 with 7 time steps. The "
    "outputs and the last states are compared with those of the Keras model, for int8 with those "
    "of onnxruntime. **Right**: no number differs by more than 1e-4 of max(1, |y|), for int8 by "
    "more than 0.02. **Wrong**: the file runs, without an error, and a number differs by more. "
    "**Refused**: the runtime does not load or run the file."
)


def summarize(rows: Mapping[str, list[dict]]) -> dict:
    """Returns the results in the form of the JSON file, grouped.

    Args:
        rows: {preset: a row for each file}.
    """
    return {
        "presets": len(rows),
        "totals": _count(rows, lambda preset, row: ""),
        "forms": _count(rows, lambda preset, row: f"{row['form']}, {row['kind']}"),
        "opsets": _count(rows, lambda preset, row: f"{row['form']}, opset {row['opset']}"),
        "nodes": _count(rows, _node_group),
        "chosen": _count_chosen(rows),
        "largest": _largest(rows),
        "reasons": _reasons(rows),
    }


def _files(rows: Mapping[str, list[dict]]) -> Iterator[tuple[str, dict]]:
    for preset, files in rows.items():
        yield from ((preset, row) for row in files if "results" in row)


def _count(rows: Mapping[str, list[dict]], group_of: Any) -> dict:
    """Returns {group: {runtime: [files that are right, wrong, refused]}}."""
    counts: dict = {}
    for preset, row in _files(rows):
        if (group := group_of(preset, row)) is None:
            continue
        for runtime, result in row["results"].items():
            cell = counts.setdefault(group, {}).setdefault(runtime, [0, 0, 0])
            cell[VERDICTS.index(result["verdict"])] += 1
    return counts


def _native(preset: str) -> Any:
    return find_native_operator(resolve(find_preset(preset)))


def _has_reverse_node(preset: str, kind: str) -> bool:
    """Whether a file has a node with direction="reverse".

    A Bidirectional is one node, unless its directions read different inputs: each has a window, or
    a candidate that is computed outside of the node.
    """
    two = bool(resolve(find_preset(preset)).window > 1 or "candidate" in _native(preset).outside)
    return two and "bidirectional" in kind


def _node_group(preset: str, row: dict) -> str | None:
    """Returns what a native node has, as text; None for another form."""
    if row["form"] != "native":
        return None
    native = _native(preset)
    usual = {name for name, _, _ in DEFAULT_FUNCTIONS[native.operator]}
    parts = [native.operator, *sorted({name for name, _, _ in native.functions} - usual)]
    parts += ["peepholes"] if native.peepholes else []
    parts += ["reverse"] if _has_reverse_node(preset, row["kind"]) else []
    parts += ["mask"] if "masked" in row["kind"] else []
    return ", ".join(parts)


def _count_chosen(rows: Mapping[str, list[dict]]) -> dict:
    """Returns {runtime: [right, wrong, refused]} of the form that `runtimes=` chooses at opset 17.

    A native node, unless the runtime is known not to compute it.
    """
    counts: dict = defaultdict(lambda: [0, 0, 0])
    for preset, row in _files(rows):
        if row["opset"] != 17 or row["form"] not in ("native", "scan"):
            continue
        native = _native(preset)
        for runtime, result in row["results"].items():
            names = [name for name in RUNTIMES if runtime.startswith(name)][-1:]
            if "bidirectional" in row["kind"] and RUNTIMES[names[0]].reverse:
                continue  # a native node and a Scan are chosen, which no file here has
            masked = "masked" in row["kind"]
            scan = not native.operator or reason_against_operator(names, native, masked)
            if bool(scan) == (row["form"] == "scan"):
                counts[runtime][VERDICTS.index(result["verdict"])] += 1
    return dict(counts)


def _largest(rows: Mapping[str, list[dict]]) -> dict[str, dict]:
    """Returns {runtime: {"float32" or "int8": the largest difference of a file that is right}}."""
    largest: dict = defaultdict(lambda: defaultdict(float))
    for _, row in _files(rows):
        kind = "int8" if row["kind"] == "int8" else "float32"
        for runtime, result in row["results"].items():
            if result["verdict"] == "right":
                before = largest[runtime][kind]
                largest[runtime][kind] = max(before, result["difference"])
    return {runtime: dict(kinds) for runtime, kinds in largest.items()}


def _reasons(rows: Mapping[str, list[dict]]) -> list[dict]:
    """Returns the reasons with which runtimes refuse files, each with the files that it is about.

    Numbers and names of nodes, which differ from file to file, are taken out of a reason.
    """
    found: dict = defaultdict(list)
    for preset, row in _files(rows):
        for runtime, result in row["results"].items():
            if result["verdict"] == "refused":
                found[runtime, *_shorten(result["reason"])].append((preset, row))
    return [
        {
            "runtime": runtime,
            "reason": reason,
            "meaning": meaning,
            "files": len(files),
            "forms": sorted({f"{row['form']}, {row['kind']}" for _, row in files}),
            "presets": sorted({preset for preset, _ in files}),
        }
        for (runtime, reason, meaning), files in sorted(found.items())
    ]


def _shorten(reason: str) -> tuple[str, str]:
    """Returns what in an error says why, and what that means, if it is known."""
    for pattern, meaning in REASONS.items():
        if match := re.search(pattern, reason):
            return match[0], meaning
    return re.sub(r"\d+", "N", reason)[:160], ""


# The page -----------------------------------------------------------------------------------------


def markdown(result: dict) -> str:
    """Returns the page."""
    about = result["about"]
    runtimes = [*about["runtimes"]]
    return (
        "\n".join(
            [
                *heading("Runtimes, as measured", about, TEXT),
                "",
                "## In short",
                "",
                *_summary(result),
                "",
                "## By form",
                "",
                *_table(result["forms"], "form, model", runtimes, _form_title),
                "",
                "## Native nodes, by what they have",
                "",
                *_table(result["nodes"], "node", runtimes, str),
                "",
                "## By version of the operators",
                "",
                *_table(result["opsets"], "form, opset", runtimes, _form_title),
                "",
                "## Why files are refused",
                "",
                *_reason_table(result),
            ]
        )
        + "\n"
    )


def _summary(result: dict) -> list[str]:
    versions, rows = result["about"]["runtimes"], []
    for runtime, version in versions.items():
        counts, chosen = result["totals"][""][runtime], result["chosen"].get(runtime, [0, 0, 0])
        largest = result["largest"].get(runtime, {})
        rows.append(
            [
                f"{runtime} {version}",
                *(f"{n:,}" for n in counts),
                f"{chosen[0]} of {sum(chosen)}",
                *(
                    f"{largest[kind]:.1e}" if kind in largest else ""
                    for kind in ("float32", "int8")
                ),
            ]
        )
    return [
        "Files of all presets of that day. *Chosen form right* is about the form that "
        "`runtimes=` with this name chooses for a preset in one kind of model.",
        "",
        *table(["runtime", *VERDICTS, "chosen form right", "largest difference", "in int8"], rows),
        "",
        "What `runtimes=` knows, and why it chooses a `Scan`:",
        "",
        *(f"- {runtime.name}: {_limits(runtime)}." for runtime in RUNTIMES.values()),
    ]


def _limits(runtime: Runtime) -> str:
    """Returns what a runtime does with native nodes, in words."""
    others = "activations other than " + ", ".join(sorted(runtime.activations or ()))
    known = {
        others: runtime.other_activations,
        "peepholes": runtime.peepholes,
        "masks (`sequence_lens`)": runtime.lengths,
        "`direction='reverse'`": runtime.reverse,
    }
    texts = [f"{does} {what}" for what, does in known.items() if does]
    texts += [] if runtime.int8_lstm else ["has no `DynamicQuantizeLSTM`"]
    return "of native nodes, " + "; ".join(texts) if texts else "every form is right"


def _form_title(group: str) -> str:
    form, _, kind = group.partition(", ")
    return FORMS[form] if form == kind else f"{FORMS[form]}, {kind}"


def _table(groups: dict, title: str, runtimes: list[str], name: Any) -> list[str]:
    rows = [
        [name(group), *(_cell(counts.get(runtime)) for runtime in runtimes)]
        for group, counts in sorted(groups.items(), key=lambda item: _order(item[0]))
    ]
    return table([title, *runtimes], rows)


def _order(group: str) -> tuple:
    form = group.partition(", ")[0]
    return ([*FORMS].index(form) if form in FORMS else -1), group


def _cell(counts: list[int] | None) -> str:
    if not counts:
        return ""
    if counts[0] == sum(counts):
        return "right"
    texts = [f"{n} {verdict}" for n, verdict in zip(counts, VERDICTS, strict=True) if n]
    return texts[0].split()[1] if len(texts) == 1 else ", ".join(texts)


def _reason_table(result: dict) -> list[str]:
    rows = []
    for row in result["reasons"]:
        names = row["presets"]
        text = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        reason = row["reason"].replace("|", "\\|").replace("`", "'")
        what = row["meaning"] or "not looked into"
        rows.append([row["runtime"], what, f"`{reason}`", str(row["files"]), text])
    head = ["runtime", "what is refused", "its words", "files", "presets"]
    return table(head, rows) if rows else ["None is."]
