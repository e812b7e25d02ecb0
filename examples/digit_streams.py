"""Handwritten digits as streams: scikit-learn's 8 by 8 images one below the other, row by row.

    train, test = train_and_test()
    x, y = streams(*train, count=256, digits=16, seed=0)   # (256, 128, 8), (256, 128)

Nothing marks where a digit begins: a model has to learn it.
"""

import numpy as np
from sklearn.datasets import load_digits

ROWS = 8  # of an image, and pixels in each
TRAIN = 1500  # images; the other 297 are for the test


def train_and_test():
    """Returns (images (N, 8, 8), labels (N,)) to train with, and the same to test with."""
    data = load_digits()
    images, labels = (data.images / 16.0).astype("float32"), data.target
    return (images[:TRAIN], labels[:TRAIN]), (images[TRAIN:], labels[TRAIN:])


def streams(images, labels, count, digits, seed):
    """Returns `count` streams of `digits` random digits.

    Returns:
        x: float32 (count, 8 digits, 8), a row of pixels at each time step.
        y: (count, 8 digits), the digit to which the row belongs.
    """
    drawn = np.random.default_rng(seed).integers(len(images), size=(count, digits))
    x = images[drawn].reshape(count, ROWS * digits, ROWS)
    return x, np.repeat(labels[drawn], ROWS, axis=1)
