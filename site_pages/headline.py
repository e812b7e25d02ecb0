"""The numbers of the first page and of README, from the stored results."""

from site_pages.charts import SIZE
from site_pages.measured import results
from site_pages.pictures import differences, saved, study


def weights_saved(cell: str = "lstm") -> str:
    """Returns the share of a cell's weights that its gates need to see h, such as "31%".

    Raises:
        ValueError: if the cell without them was not better with every seed of the study.
    """
    gaps = differences(study(cell))["no gate sees h"]
    if len(gaps) < 5 or max(gaps) >= 0:
        raise ValueError(f"the first page says that every seed was better: {gaps}")
    return f"{saved(study(cell))['no gate sees h']:.0%}"


def times_as_fast(name: str) -> str:
    """Returns how many times as fast as Keras's layer ours trains; `name` is "LSTM" or "GRU"."""
    times = results("tensorflow")["sizes"][SIZE]["train"]
    return f"{times[f'keras {name}'] / times[f'Gated{name}']:.1f}"


def milliseconds_of_a_step(way: str) -> str:
    """Returns the time of a step of five LSTM layers, by "session" or "predict_on_batch"."""
    (times,) = [row for row in results("device")["steps"] if row["preset"] == "lstm"]
    return f"{times[way]:.2f}"


def machine(name: str) -> str:
    """Returns where and when a result was measured."""
    about = results(name)["about"]
    packages = ("keras", "tensorflow", "onnxruntime")
    versions = [f"{p} {about['versions'][p]}" for p in packages if p in about["versions"]]
    return f"{about['machine']}; {', '.join(versions)}; {about['date']}"


INSERTS = {
    "weights saved": weights_saved,
    "weights saved GRU": lambda: weights_saved("gru"),
    "times LSTM": lambda: times_as_fast("LSTM"),
    "times GRU": lambda: times_as_fast("GRU"),
    "step session": lambda: milliseconds_of_a_step("session"),
    "step keras": lambda: milliseconds_of_a_step("predict_on_batch"),
    "machine": lambda: machine("device"),
}
