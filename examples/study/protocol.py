"""How cells of equal size are trained: the settings of each task, and learning rates."""

from study import tasks

COMMON = {"optimizer": "adam", "buckets": 2}
SYNTHETIC = {"epochs": 15, "patience": 15, "batch_size": 64}  # 2,355 updates
REAL = {"epochs": 60, "patience": 12, "batch_size": 16}  # fewer sequences, so more epochs
RATE = 1e-2  # if there was no search

# Task -> preset -> learning rate: what --search found for cells of 10,000 weights, with one seed
# and half the epochs of a run. It drew 10 rates from 9e-4 to 0.022 on the chorales, 6 from 9e-4 to
# 0.02 on the digits, 6 from 4e-4 to 0.01 on the vowels and for the last three cells on the digits,
# and on adding_100, for 10 epochs, 3 from 5e-4 to 4e-3. Many of the best are the highest drawn;
# elman's on the digits and on adding_100 are the lowest.
FOUND = {
    "chorales": {
        "lstm_peephole": 0.02,
        "nig": 0.0141,
        "nfg": 0.0217,
        "nog": 0.0217,
        "niaf": 0.02,
        "noaf": 0.0141,
        "cifg": 0.0141,
        "np": 0.0217,
        "fgr": 0.0217,
        "gru": 0.0217,
        "gru_no_reset": 0.02,
        "gru_no_update": 0.0141,
        "elman": 0.0055,
    },
    "digits": {
        "lstm_peephole": 0.0141,
        "nig": 0.00763,
        "nfg": 0.02,
        "nog": 0.00763,
        "niaf": 0.0141,
        "noaf": 0.00763,
        "cifg": 0.0141,
        "np": 0.00763,
        "fgr": 0.00763,
        "gru": 0.0141,
        "gru_no_reset": 0.00763,
        "gru_no_update": 0.00211,
        "elman": 0.00087,
        "lstm": 0.00707,
        "mgu": 0.01,
        "janet": 0.00381,
    },
    "adding_100": {
        "elman": 0.000474,
        "lstm": 0.00381,
        "nfg": 0.00381,
        "gru": 0.00381,
        "mgu": 0.00381,
        "janet": 0.00381,
    },
    "vowels": {
        "elman": 0.00381,
        "lstm": 0.00707,
        "nfg": 0.00106,
        "gru": 0.01,
        "mgu": 0.00381,
        "janet": 0.00707,
    },
}


def settings(task: str) -> dict:
    """Returns the settings of a task's runs: arguments of `Run`."""
    usual = SYNTHETIC if task in tasks.SYNTHETIC else REAL
    return COMMON | usual | tasks.SETTINGS.get(task, {})
