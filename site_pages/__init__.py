"""The generated parts of the documentation site: pages, drawings, tables and the reference.

- `hooks.py`: the functions that mkdocs calls.
- `cells.py`, `gallery.py`: a page for each preset, and a table of all. They use `diagram.py`
  (drawings, made of the elements in `svg.py`), `counts.py`, `spec_code.py` and `measured.py`.
- `inserts.py`: text from the package inside hand-written pages, e.g. the strip of `idea.py`.
- `which_cell.py`, `studies.py`: tables and numbers from the results, for such pages.
- `charts.py`: charts of the measured speed.
- `outputs.py`: what the code of a guide prints and draws; the code is run when the site is built.
- `pictures.py`: the pictures of README and of the first page; `headline.py`: their three numbers.
- `reference.py`, `docstrings.py`: the reference, and a check that every public name is in it.
- `mathml.py`: formulas as MathML.
"""
