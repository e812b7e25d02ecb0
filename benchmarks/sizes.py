"""The sizes, cells and comparisons that are measured."""

from typing import NamedTuple


class Size(NamedTuple):
    """Size of the input (batch, time, inputs) and of the state (units)."""

    batch: int
    time: int
    inputs: int
    units: int

    @classmethod
    def read(cls, text: str) -> "Size":
        """Returns the size from a text "batch,time,inputs,units"."""
        return cls(*map(int, text.split(",")))

    def __str__(self) -> str:
        return f"({', '.join(str(n) for n in self)})"


SIZES = (
    Size(32, 100, 32, 64),
    Size(32, 100, 64, 128),
    Size(64, 256, 128, 512),
    Size(1, 1000, 64, 128),
    Size(16, 2000, 64, 256),
)
LARGE = (  # large batches, where the elementwise part of a step is most of it
    Size(256, 100, 64, 128),
    Size(256, 992, 5, 40),
    Size(512, 50, 1, 32),
    Size(2000, 60, 5, 40),
)
QUICK = SIZES[:2]
TINY = Size(1, 2, 3, 4)
MEMORY = SIZES[4]
COMPILE = (Size(32, 100, 64, 128), Size(32, 2000, 64, 128))
DEEP, LAYERS = Size(8, 20, 32, 32), 30  # a stack of equal layers

# Names that are in more than one table
GENERIC = "keras RNN(GatedCell lstm)"
LAST = ", last output"  # end of a name: without return_sequences
TORCH_LOOP = "torch.compile of an LSTM loop"
ONE_STEP = ", one step a pass"  # end of a name: a pass of the loop takes one time step
JOINED = ", joined series"  # end of a name: a step reads and writes the time series as one tensor
IN_16_BITS = ", all in bfloat16"  # end of a name: weights and products in bfloat16

ABLATIONS = ("nig", "nfg", "nog", "cifg", "janet", "mgu", "gru_cho", "min_gru")
QUICK_ABLATIONS = ("nfg", "janet", "mgu", "gru_cho")

# (ours, other): the ratio is the time of the other divided by ours, above 1 if ours is faster.
RATIOS = (
    ("GatedLSTM", "keras LSTM"),
    ("GatedGRU", "keras GRU"),
    (f"GatedLSTM{LAST}", f"keras LSTM{LAST}"),
    (f"GatedGRU{LAST}", f"keras GRU{LAST}"),
    ("GatedLSTM", "torch LSTM"),
    ("GatedGRU", "torch GRU"),
    ("GatedLSTM", "flax LSTM"),
    ("GatedLSTM", GENERIC),
    ("GatedLSTM", "bare products"),
)
SHARES = (
    ("nig", "GatedLSTM"),
    ("nfg", "GatedLSTM"),
    ("nog", "GatedLSTM"),
    ("janet", "GatedLSTM"),
    ("mgu", "gru_cho"),
)

# On a GPU. The first two sizes matter most: a run may end before it reaches the last.
GPU_SIZES = (
    Size(64, 256, 512, 512),
    Size(128, 512, 1024, 1024),
    Size(32, 128, 128, 256),
    Size(64, 1024, 256, 256),
    Size(16, 4096, 128, 128),
)
GPU_SMOKE = (Size(2, 6, 3, 4),)
GPU_COMPILE = (*(Size(32, time, 128, 256) for time in (128, 512, 2048, 4096)), GPU_SIZES[0])
GPU_ABLATIONS = ("janet", "mgu")
GPU_LINEAR = ("min_gru", "qrnn_f")  # time steps in parallel, and one after another
OURS = ("GatedLSTM", "GatedGRU")
GPU_NEWTON = ("para_gru", "para_lstm")  # the same, by Newton's method
GPU_NEWTON_SIZES = tuple(Size(16, time, 128, 128) for time in (1024, 4096, 16384))
