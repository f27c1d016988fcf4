"""The attention heads of a network that others trained: read from a file that ships inside a package."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

MODEL = "models/ch_PP-OCRv4_rec_infer.onnx"
DIGEST = "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"  # of MODEL in rapidocr-onnxruntime 1.4.4
HEADS = 8


def pretrained_heads() -> tuple[Tensor, Tensor]:
    """W_Q and W_K of the attention layers of a text recogniser, first to last: two tensors (2, 8, 15, 120), float64.

    The network reads lines of printed Chinese and English: convolutions, then two attention layers with 120 features
    and 8 heads of 15 key dimensions.  Its file is read, not run.  A layer stores (d, 3 d): W_Q, W_K, W_V side by side,
    each of them head by head, for features as rows.

    Raises ImportError where the package that ships the file, or the one that reads it, is missing, and ValueError for
    another file than that of rapidocr-onnxruntime 1.4.4.

    Source: PP-OCRv4 of PaddleOCR, as converted by rapidocr-onnxruntime 1.4.4 (Apache 2.0); the layers are those of Du
    et al., SVTR, arXiv 2205.00159.
    """
    package, reader = find_spec("rapidocr_onnxruntime"), find_spec("onnx")
    if package is None or package.origin is None or reader is None:
        wanted = "pip install onnx; pip install --no-deps rapidocr-onnxruntime==1.4.4"
        raise ImportError(f"pretrained_heads: the package that ships the weights, or its reader, is missing: {wanted}")
    import onnx
    from onnx import numpy_helper

    content = (Path(package.origin).parent / MODEL).read_bytes()
    if hashlib.sha256(content).hexdigest() != DIGEST:
        raise ValueError(f"pretrained_heads: {MODEL} is not that of rapidocr-onnxruntime 1.4.4")
    nodes = onnx.load_from_string(content).graph.node
    held = [a.t for node in nodes if node.op_type == "Constant" for a in node.attribute if a.name == "value"]
    layers = [numpy_helper.to_array(t) for t in held if len(t.dims) == 2 and t.dims[1] == 3 * t.dims[0]]
    weight = torch.stack([torch.tensor(w).double().T for w in layers])  # (layers, 3 d, d)
    W_Q, W_K, _ = weight.unflatten(1, (3, HEADS, -1)).unbind(dim=1)
    return W_Q, W_K
