"""Hooks of mkdocs: they add pages and outputs, render formulas and check the reference."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # mkdocs may run from anywhere

if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"  # the guides run, and export ONNX files
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from mkdocs.exceptions import PluginError  # noqa: E402 - Keras reads its backend once
from mkdocs.structure.files import File  # noqa: E402

import keras_gated  # noqa: E402
from site_pages import (  # noqa: E402
    browser,
    cells,
    charts,
    gallery,
    inserts,
    mathml,
    measured,
    outputs,
    reference,
    studies,
)

REFERENCE = "reference/"
RUN = ("guides/", "index.md")  # pages whose code is run
RESULTS = "results/"


def on_config(config):
    """Adds the pages of cells and of studies to the navigation."""
    sections = {title: part for entry in config.nav for title, part in entry.items()}
    entries = sections.get("Cells", [])
    entries[1:1] = [
        {title: [{preset.name: f"cells/{preset.name}.md"} for preset in members]}
        for title, members in cells.by_family().items()
    ]
    pages = [f"{RESULTS}{name}/page.md" for name in studies.names()]
    config.nav.insert(-2, {"Studies": [f"{RESULTS}index.md", *pages]})
    return config


def on_files(files, config):
    """Adds generated pages and charts, and stops if a public name has no documentation."""
    texts = [f.content_string for f in files if f.src_uri.startswith(REFERENCE)]
    try:
        reference.check_reference(keras_gated.__all__, texts)
    except reference.Undocumented as error:
        raise PluginError(str(error)) from error
    written = {"cells/index.md": gallery.write_gallery(), **cells.write_pages()}
    written |= charts.write_charts({name: measured.results(name) for name in charts.BACKENDS})
    written |= studies.dark_figures()
    for place, text in written.items():
        files.append(File.generated(config, place, content=text))
    for place, file in browser.find_files().items():
        files.append(File.generated(config, place, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown, page, **_):
    """Replaces inserts; adds outputs to guides, dark figures to studies, names to the reference."""
    markdown, name = inserts.fill_inserts(markdown), page.file.src_uri
    if name.startswith(RUN):
        try:
            return outputs.add_outputs(markdown, name)
        except outputs.CodeError as error:
            raise PluginError(str(error)) from error
    if name.startswith(RESULTS):
        return studies.show_both(markdown)
    return reference.expand_entries(markdown) if name.startswith(REFERENCE) else markdown


def on_page_content(html, **_):
    """Renders the formulas of a page."""
    return mathml.render_formulas(html)
