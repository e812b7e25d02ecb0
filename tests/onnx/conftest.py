"""For all tests of the export."""

import pytest


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "model.onnx")
