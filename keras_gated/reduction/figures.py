"""Figures of a gate report and of a search, drawn with matplotlib."""

from typing import Any

from keras_gated.inspection.plots import new_figure


def plot_report(report: Any) -> Any:
    """Draws a `GateReport`: the weights that go against the change of the loss."""
    figure = new_figure(figsize=(8.0, 4.5))
    ax = figure.subplots()
    total, loss = report.parameters, abs(report.loss) or 1.0
    lines: list[str] = []
    parts = sorted({(row.layer, row.part) for row in report.rows})
    for i, (layer, part) in enumerate(parts):
        rows = [row for row in report.rows if (row.layer, row.part) == (layer, part)]
        x = [100 * row.weights / total for row in rows]
        y = [100 * row.increase / loss for row in rows]
        marker = "osD^vPX*"[i % 8]
        ax.scatter(x, y, marker=marker, label=f"{layer}: {part}", alpha=0.8)
    for number, row in enumerate(report.rows[:3], start=1):
        place = (100 * row.weights / total, 100 * row.increase / loss)
        ax.annotate(str(number), place, xytext=(6, 6), textcoords="offset points")
        lines.append(f"{number}  {row.layer}, {row.part}: {row.becomes}")
    ax.set_title("\n".join(lines), loc="left", fontsize="medium")
    ax.set_yscale("symlog", linthresh=1.0)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.axhline(0.0, color="grey", linewidth=0.8)
    ax.set_xlabel("weights that go (% of the model)")
    ax.set_ylabel("change of the loss, without training (%)")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def plot_result(result: Any) -> Any:
    """Draws a `SlimResult`: the monitored value against the weights."""
    figure = new_figure(figsize=(7.0, 4.5))
    ax = figure.subplots()
    for points, style in (
        (result.path, {"marker": "o", "linestyle": "-", "label": "accepted"}),
        (result.rejected, {"marker": "x", "linestyle": "", "color": "grey", "label": "rejected"}),
        ((result.control,), {"marker": "s", "linestyle": "", "label": result.control.title}),
    ):
        if points:
            ax.plot([p.weights for p in points], [p.value for p in points], **style)
    for point in (*result.path, result.control):
        if len(point.values) > 1:
            ax.vlines(point.weights, min(point.values), max(point.values), alpha=0.5)
    ax.axhline(result.limit, color="grey", linewidth=0.8, linestyle="--")
    place = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3)}
    place |= {"textcoords": "offset points", "ha": "right"}
    ax.annotate("tolerance", (0.99, result.limit), **place)
    ax.margins(y=0.1)
    ax.set_xlabel("weights of the model")
    ax.set_ylabel(result.monitor)
    ax.legend()
    return figure
