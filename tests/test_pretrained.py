"""The heads are read from the file as the network uses them; a missing package and another file are said."""

import hashlib
import sys

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper

from symlib import data
from symlib.data import pretrained


@pytest.fixture
def recogniser(tmp_path, monkeypatch):
    """A file of the same layout: two layers with 16 features and 8 heads of 2, among weights of other shapes."""
    gen = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(*s, generator=gen).numpy() for s in [(16, 48), (16, 16), (16, 32), (16, 48), (16, 99), (48,)]
    ]
    nodes = [
        helper.make_node("Constant", [], [f"w{i}"], value=numpy_helper.from_array(w)) for i, w in enumerate(weights)
    ]
    graph = helper.make_graph([*nodes, helper.make_node("Identity", ["w0"], ["y"])], "g", [], [])
    folder = tmp_path / "rapidocr_onnxruntime" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")  # the package is found, not run
    content = helper.make_model(graph).SerializeToString()
    (folder / pretrained.MODEL.split("/")[1]).write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(pretrained, "DIGEST", hashlib.sha256(content).hexdigest())
    return weights


def test_heads_are_those_of_the_network(recogniser):
    """The scores of x -> x W, reshaped to (n, 3, heads, key) as in the file's network, are those of W_Q and W_K."""
    W_Q, W_K = data.pretrained_heads()
    assert W_Q.shape == W_K.shape == (2, 8, 2, 16) and W_Q.dtype == torch.float64
    x = np.random.default_rng(0).standard_normal((5, 16))
    for layer, w in enumerate([recogniser[0], recogniser[3]]):
        q, k, _ = (x @ w).reshape(5, 3, 8, 2).transpose(1, 2, 0, 3)  # (3, heads, n, key)
        scores = torch.einsum("ni,mki,mkj,lj->mnl", torch.tensor(x), W_Q[layer], W_K[layer], torch.tensor(x))
        assert np.allclose(scores, q @ k.transpose(0, 2, 1))
        assert not np.allclose(scores, k @ q.transpose(0, 2, 1))


def test_another_file_is_refused(recogniser, monkeypatch):
    monkeypatch.setattr(pretrained, "DIGEST", "0" * 64)
    with pytest.raises(ValueError, match=r"is not that of rapidocr-onnxruntime 1\.4\.4"):
        data.pretrained_heads()


@pytest.mark.parametrize("missing", ["onnx", "rapidocr_onnxruntime"])
def test_a_missing_package_is_said(missing, recogniser, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match="pip install onnx; pip install --no-deps rapidocr-onnxruntime"):
        data.pretrained_heads()
