"""How a cell is run over time: the formula, the loop, its gradient. It knows no preset.

In the order in which to read it:

- `formula`: one time step on tensors, and the hooks through which the others see its inside.
- `call`: `RecurrentCall`, all that one run of a cell over time is.
- `run`: chooses how a call is run.
- `loop_plan` and `loop`: the loop over time, forwards and backwards, and one run of it.
- `fused`: cells that an operator of the backend computes whole.
- `backward`: the gradient of one step; opens with an LSTM step worked by hand.
- `parallel_scan`: all time steps at once, for cells whose memory is linear.
- `random_masks`, `input_window`: draws dropout, zoneout and noise; the last k inputs side by side.
- `backends`: the few lines that differ between TensorFlow, JAX and torch.
"""
