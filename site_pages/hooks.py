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
from site_pages import browser, cells, inserts, mathml, outputs, reference  # noqa: E402

REFERENCE = "reference/"
RUN = ("guides/", "index.md")  # pages whose code is run
RESULTS = "results"


def on_config(config):
    """Adds the generated pages, and those of finished studies, to the navigation."""
    sections = {title: part for entry in config.nav for title, part in entry.items()}
    entries = sections.get("Cells", [])
    entries[1:1] = [
        {title: [{preset.name: f"cells/{preset.name}.md"} for preset in members]}
        for title, members in cells.by_family().items()
    ]
    docs = Path(config.docs_dir)
    results = [
        path.relative_to(docs).as_posix() for path in sorted((docs / RESULTS).glob("*/page.md"))
    ]
    if results:
        config.nav.insert(-2, {"Studies": results})
    return config


def on_files(files, config):
    """Adds the generated pages, and stops if a public name has no documentation."""
    texts = [f.content_string for f in files if f.src_uri.startswith(REFERENCE)]
    try:
        reference.check_reference(keras_gated.__all__, texts)
    except reference.Undocumented as error:
        raise PluginError(str(error)) from error
    for place, text in cells.write_pages().items():
        files.append(File.generated(config, place, content=text))
    for place, file in browser.find_files().items():
        files.append(File.generated(config, place, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown, page, **_):
    """Replaces inserts, adds what the code of a guide prints, expands entries of the reference."""
    markdown, name = inserts.fill_inserts(markdown), page.file.src_uri
    if name.startswith(RUN):
        try:
            return outputs.add_outputs(markdown, name)
        except outputs.CodeError as error:
            raise PluginError(str(error)) from error
    return reference.expand_entries(markdown) if name.startswith(REFERENCE) else markdown


def on_page_content(html, **_):
    """Renders the formulas of a page."""
    return mathml.render_formulas(html)
