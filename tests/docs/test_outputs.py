"""What the code of a guide prints and draws is put on its page; what fails stops the build."""

import re

import keras
import pytest

from site_pages.outputs import CodeError, add_outputs
from tests.helpers import raises

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the site is built on TensorFlow"
)


def test_what_a_block_prints_stands_behind_it():
    page = "```python\na = 2\n```\n\ntext\n\n```python\nprint(a + 1)\n```\nmore\n"
    expected = "```python\nprint(a + 1)\n```\n\n```{.text .output}\n3\n```\nmore\n"
    assert add_outputs(page, "page") == page.replace(
        "```python\nprint(a + 1)\n```\nmore\n", expected
    )


def test_static_blocks_are_shown_and_not_run():
    page = "```python static\nraise ValueError\n```\n"
    assert add_outputs(page, "page") == "```python\nraise ValueError\n```\n"


def test_quick_commands_are_run():
    page = "```sh\nkeras-gated budget gru 88 18000\n```\n"
    assert "44 units of gru with 88 inputs: 17,688 weights" in add_outputs(page, "page")
    for command in ("keras-gated doctor", "python examples/quickstart.py", "pip install ."):
        page = f"```sh\n{command}\n```\n"
        assert add_outputs(page, "page") == page


def test_a_failing_block_names_its_page():
    raises(lambda: add_outputs("```python\n1 / 0\n```\n", "a.md"), "a.md: Zero", CodeError)
    raises(lambda: add_outputs("```sh\nkeras-gated show x\n```\n", "b.md"), "b.md: ", CodeError)
    raises(lambda: add_outputs("<!-- figure a.svg: A. -->\n", "c.md"), "c.md: no block", CodeError)


def test_a_figure_is_in_the_colours_of_the_page():
    pytest.importorskip("matplotlib")
    code = (
        "from matplotlib.figure import Figure\nfigure = Figure()\n"
        'figure.subplots().plot([1, 2], color="C1")\nfigure.savefig("a.svg")\n'
    )
    page = add_outputs(f"```python\n{code}```\n\n<!-- figure a.svg: A line,\nand more. -->\n", "p")
    (figure,) = re.findall(r"<figure.*?</figure>", page)
    assert 'aria-label="A line, and more."' in figure and "data-search-exclude" in figure
    assert "currentColor" in figure and "#ff7f0e" in figure
    assert not re.search("#000000|#ffffff|<style|<metadata|<!--", figure) and ">1.0<" in figure
