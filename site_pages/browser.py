"""The page of `examples/browser_chorale.py`: part of the site where it has been built."""

from pathlib import Path

BUILT = Path(__file__).parents[1] / "build" / "browser_chorale"
PLACE = "chorale"  # on the site
NEEDED = ("index.html", "chorale.onnx", "ort/ort.wasm.min.mjs")


def find_files() -> dict[str, Path]:
    """Returns {place on the site: file}; nothing if the page has not been built."""
    if not all((BUILT / name).is_file() for name in NEEDED):
        return {}
    files = sorted(path for path in BUILT.rglob("*") if path.is_file())
    return {f"{PLACE}/{path.relative_to(BUILT).as_posix()}": path for path in files}


def link() -> str:
    """Returns a sentence with a link to the page; nothing if it is not part of the site."""
    if not find_files():
        return ""
    return f"[Hear the chorale]({PLACE}/index.html) that `browser_chorale.py` writes, here."
