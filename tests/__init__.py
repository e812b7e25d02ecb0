"""The tests; their folders are those of the package and of what stands beside it."""

from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the repository
