"""The catalogue: architectures at sizes small enough for exhaustive symbolic proofs."""

from collections.abc import Mapping

from symlib.architectures.arch import Arch
from symlib.architectures.blocks import attention, conv_block, multihead_attention
from symlib.architectures.dense import factorisation, input_convex, mlp, normalised_layer, residual, softmax_classifier

CATALOGUE: Mapping[str, Arch] = {
    "linear, two layers": mlp((3, 2, 2), "linear"),
    "linear, three layers": mlp((2, 2, 2, 3), "linear"),
    "relu, two layers": mlp((2, 3, 2), "relu"),
    "relu, three layers": mlp((2, 3, 2, 1), "relu"),
    "leaky-relu, two layers": mlp((2, 3, 2), "leaky-relu"),
    "leaky-relu, three layers": mlp((2, 3, 2, 1), "leaky-relu"),
    "tanh, two layers": mlp((2, 3, 2), "tanh"),
    "tanh, three layers": mlp((2, 3, 2, 1), "tanh"),
    "gelu, two layers": mlp((2, 3, 2), "gelu"),
    "gelu, three layers": mlp((2, 3, 2, 1), "gelu"),
    "quadratic, two layers": mlp((2, 3, 2), "power-2"),
    "radial, two layers": mlp((3, 2, 2), "radial"),
    "radial, three layers": mlp((2, 2, 2, 1), "radial"),
    "softmax classifier": softmax_classifier(2, 3),
    "normalised layer": normalised_layer(3, 2, 2),
    "attention head": attention(3, 2, 2),
    "multi-head attention": multihead_attention(2, 2, 2, 1),
    "residual relu network": residual(2, (2, 1)),
    "non-negative factorisation": factorisation(2, 2, 3),
    "input-convex network": input_convex(2, 3, 2, bias=True),
    "convolutional relu block": conv_block((1, 2, 1), 2, "relu", size=3),
}
"""Architectures at sizes small enough for exhaustive symbolic proofs; the functions of this package build any size."""
