"""The body of a Scan."""

import numpy as np
import onnx

import keras_gated as kg
from keras_gated.onnx.export import export_onnx
from tests.onnx.helpers import F, U, functional, on_tensorflow

pytestmark = on_tensorflow


def test_the_body_of_a_scan_has_the_blocks_of_the_cell_alone(path):
    model = functional(kg.GatedRNN(U, "mgu", return_sequences=True, name="cell"))
    export_onnx(model, path, lowering="scan")
    graph = onnx.load(path).graph
    (scan,) = (node for node in graph.node if node.op_type == "Scan")
    body = next(a.g for a in scan.attribute if a.name == "body")
    products = [node for node in body.node if node.op_type == "Gemm"]
    assert len(products) == 2 and len(body.node) < 20  # h and r h
    stored = {t.name: t.dims for g in (graph, body) for t in g.initializer if len(t.dims) == 2}
    assert sum(int(np.prod(dims)) for dims in stored.values()) == 2 * U * (F + U)
    assert scan.name == "cell/Scan" and all(node.name.startswith("cell/") for node in body.node)
