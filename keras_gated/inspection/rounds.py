"""How many rounds of Newton's method the layers of a model take, see `engine.newton`."""

from typing import Any, NamedTuple

from keras import ops

from keras_gated.engine.call import RecurrentCall
from keras_gated.engine.newton import count_rounds, fits
from keras_gated.inspection.recorded_runs import by_layer_name, recorded_by, run_once


class Rounds(NamedTuple):
    """Rounds of Newton's method in one call of a layer.

    Attributes:
        rounds: how many corrections of all time steps at once were made.
        converged: whether their result is that of the loop over time. If not, the loop runs, and
            the rounds were for nothing.
    """

    rounds: int
    converged: bool


def newton_rounds(model_or_layer: Any, x: Any) -> dict[str, Rounds]:
    """Runs a model or layer and counts the rounds that `time_parallel=True` takes, by layer.

    Fewer rounds are faster; as many as time steps would be slower than the loop. The count depends
    on the weights and on the data. So it is taken for each layer that could run so, whether it has
    `time_parallel=True` or not: to see beforehand whether that can pay.

    Args:
        model_or_layer: a Keras model, or one gated layer. It is not changed.
        x: what the model is called with: sequences (B, T, F), or a list or dictionary of inputs.

    Returns:
        `{layer: Rounds(rounds, converged)}`, layers in the order in which they run, with keys as in
        `trace_gates`.

    Raises:
        ValueError: if no layer ran that could use Newton's method.

    Example:
        >>> layer = kg.GatedRNN(8, "para_gru", time_parallel=True, name="gru")
        >>> kg.newton_rounds(layer, np.ones((2, 50, 3), "float32"))
        {'gru': Rounds(rounds=..., converged=True)}
    """
    runs: list[tuple[Any, Rounds]] = []

    def count(call: RecurrentCall) -> None:
        if fits(call):
            rounds, converged = map(ops.convert_to_numpy, count_rounds(call))
            runs.append((call.layer, Rounds(int(rounds), bool(converged))))

    with recorded_by(count):
        run_once(model_or_layer, x)
    if not runs:
        raise ValueError(
            "Argument `model_or_layer` must have a gated layer whose recurrent kernels are all "
            "diagonal or identity, such as GatedRNN(units, 'para_gru'), with states of 32 or 64 "
            "bits, and that runs when it is called. (A cell whose memory is linear, such as "
            f"'min_gru', takes one scan and no rounds.) Received: {model_or_layer!r}."
        )
    return by_layer_name(runs)
