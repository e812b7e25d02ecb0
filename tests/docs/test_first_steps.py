"""Every install line that a page prints is run by `nox -s first_steps`."""

import pytest

from tests.first_steps import STEPS, find_lines, lines_of, session_name


@pytest.mark.parametrize("line", find_lines())
def test_what_to_run_after_an_install_line_is_known(line):
    assert line in STEPS, "add it to STEPS in tests/first_steps.py, with what the page says next"


def test_lines_are_found_in_blocks_and_in_text():
    text = """
    pip install -e ".[tensorflow,docs]" && mkdocs serve
    .venv/bin/pip install ".[jax]"      # and then
    With `pip install ".[new]"`, more.
    """
    assert list(lines_of(text)) == [".[tensorflow,docs]", ".[jax]", ".[new]"]
    assert lines_of(text)[".[tensorflow,docs]"] == ("-e", ".[tensorflow,docs]")
    assert ".[new]" not in STEPS


def test_sessions_have_names_of_their_own():
    names = {session_name(line) for line in STEPS}
    assert len(names) == len(STEPS)
    assert {"tensorflow-onnx-plot", "keras-3-14-0-test"} <= names
