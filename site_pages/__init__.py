"""The generated parts of the documentation site: pages, drawings, tables and the reference.

- `hooks.py`: the functions that mkdocs calls.
- `cells.py`: the gallery and a page for each preset. It uses `diagram.py` (drawings, made of the
  elements in `svg.py`), `counts.py`, `spec_code.py` and `measured.py`.
- `inserts.py`: text from the package inside hand-written pages, e.g. the drawing of `idea.py`.
- `reference.py`, `docstrings.py`: the reference, and a check that every public name is in it.
- `mathml.py`: formulas as MathML.
"""
