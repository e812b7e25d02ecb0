"""What the documentation site is made of beside docs/: pages and pictures from the catalogue.

hooks.py is what mkdocs calls; cells.py writes the gallery and a page for each preset, from
diagram.py, measured.py and the package's own descriptions; idea.py draws the first page's picture;
reference.py finds public names and refuses those without documentation; mathml.py renders.
"""
