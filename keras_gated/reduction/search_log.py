"""The record of a search, in a folder: what was tried, and the models that were accepted.

folder/search.json     the settings, and a line for each step that was tried
folder/1.keras, ...    the models on the path
folder/control.keras   the model given, trained as long
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_gated.convert.layer_copies import compile_afresh, custom_objects_of
from keras_gated.onnx.atomic_file import replace_when_complete
from keras_gated.reduction.slim_result import Point
from keras_gated.spec.config import from_json_value, to_json_value

FILE = "search.json"


class SearchLog:
    """What a search has tried.

    Args:
        folder: where it is recorded, or None for nowhere.
        settings: JSON-ready; a record with other settings is refused.
        start: the model given, as which the models of the record are compiled.

    Raises:
        ValueError: if the folder holds the record of another search.
    """

    def __init__(self, folder: str | os.PathLike | None, settings: dict[str, Any], start: Any):
        self._folder = None if folder is None else Path(folder)
        self._settings, self._start = settings, start
        self._tried: list[dict] = []
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / FILE
        if not file.exists():
            return
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["settings"] != settings:
            other = [k for k, v in settings.items() if record["settings"].get(k) != v]
            raise ValueError(
                "Argument `folder` must be empty, or hold the record of the same search. Received: "
                f"folder={str(folder)!r}, whose search had other values of {', '.join(other)}. "
                "Choose another folder."
            )
        self._tried = record["tried"]

    def find(self, key: list) -> Point | None:
        """Returns what came of a step in an earlier run, or None."""
        found = next((line for line in self._tried if line["key"] == key), None)
        if found is None or self._folder is None:
            return None
        model = self._load(found["model"]) if found["model"] else None
        changes = {
            layer: {k: from_json_value(v) for k, v in values.items()}
            for layer, values in found["changes"].items()
        }
        return Point(
            found["title"],
            changes,
            found["weights"],
            tuple(found["values"]),
            found["accepted"],
            model,
        )

    def _load(self, name: str) -> Any:
        """A model of the record. Functions of the user need not be registered."""
        with custom_objects_of(self._start):
            model = keras.saving.load_model(Path(self._folder or "") / name, compile=False)
        compile_afresh(self._start, model)
        return model

    def add(self, key: list, point: Point) -> None:
        """Records what came of a step."""
        if self._folder is None:
            return
        name = f"{key[0]}.keras" if point.accepted else ""
        if name:
            with replace_when_complete(self._folder / name) as draft:
                point.model.save(draft)
        changes = {
            layer: {k: to_json_value(v) for k, v in values.items()}
            for layer, values in point.changes.items()
        }
        line = {"key": key, "title": point.title, "changes": changes, "weights": point.weights}
        line |= {"values": list(point.values), "accepted": point.accepted, "model": name}
        self._tried.append(line)
        text = json.dumps({"settings": self._settings, "tried": self._tried}, indent=1)
        with replace_when_complete(self._folder / FILE) as draft:
            draft.write_text(text, encoding="utf-8")


def fingerprint(arrays: Any) -> str:
    """Returns a digest of arrays in a nested structure."""
    digest = hashlib.sha256()
    for array in (a for a in keras.tree.flatten(arrays) if a is not None):
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(array))
        digest.update(f"{values.dtype}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
