"""Blocks of larger networks: attention and convolutions."""

from collections.abc import Callable, Mapping, Sequence

from symlib import ops
from symlib.activations import elementwise_name
from symlib.architectures.arch import Arch
from symlib.guards import sizes
from symlib.ops import M
from symlib.symmetry import Params


def attention(d: int, key: int, value: int) -> Arch:
    """One softmax attention head on tokens as columns: f = W_O W_V x softmax((W_K x)^T W_Q x).

    The factor 1 / sqrt(key) is absorbed in W_Q.  GL(key) acts on queries and keys, GL(value) on values and output.
    Raises ValueError for bad sizes.  Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2, eq. 3 (attention).
    """
    d, key, value = sizes((d, key, value), "attention: (d, key, value)", 3, 3)
    shapes = {"W_Q": (key, d), "W_K": (key, d), "W_V": (value, d), "W_O": (d, value)}

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        scores = ops.transpose(theta["W_K"] @ x) @ (theta["W_Q"] @ x)
        return theta["W_O"] @ (theta["W_V"] @ x @ sigma["t"](scores))

    axes = {"W_Q": ("k", "x"), "W_K": ("k*", "x"), "W_V": ("v", "x"), "W_O": ("x", "v*")}
    kinds = {"k": "linear", "v": "linear", "t": "softmax"}
    return Arch(f"attention head {d}-{key}-{value}", shapes, axes, forward, kinds, (d, None), ("x", "t"))


def multihead_attention(d: int, heads: int, key: int, value: int) -> Arch:
    """Attention with several heads, f = sum_m W_O[m]^T W_V[m] x softmax((W_K[m] x)^T W_Q[m] x).

    Permutations of the heads, and in each head GL(key) and GL(value).  W_O is stored as (heads, value, d).
    Raises ValueError for bad sizes.  Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (multi-head attention).
    """
    d, heads, key, value = sizes((d, heads, key, value), "multihead_attention: (d, heads, key, value)", 4, 4)
    shapes = {
        "W_Q": (heads, key, d),
        "W_K": (heads, key, d),
        "W_V": (heads, value, d),
        "W_O": (heads, value, d),
    }
    single = attention(d, key, value)

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        def head(m: int) -> M:
            parts = {k: ops.take(theta[k], m) for k in shapes}
            return single.forward({**parts, "W_O": ops.transpose(parts["W_O"])}, x, sigma)

        total = head(0)
        for m in range(1, heads):
            total = total + head(m)
        return total

    axes = {"W_Q": ("m", "k", "x"), "W_K": ("m", "k*", "x"), "W_V": ("m", "v", "x"), "W_O": ("m", "v*", "x")}
    kinds = {"m": "sum", "m k": "linear", "m v": "linear", "t": "softmax"}
    name = f"multi-head attention {d}-{heads}x{key}-{value}"
    return Arch(name, shapes, axes, forward, kinds, (d, None), ("x", "t"))


def conv_block(channels: Sequence[int], kernel: int, activation: str = "relu", *, size: int = 8) -> Arch:
    """Two convolutions with an activation between: input (n, c0, size, size), kernels (c', c, kernel, kernel).

    The hidden channels are permuted and, for ReLU, rescaled.  Raises ValueError for bad sizes or activations that are
    not elementwise.  Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (convolutional networks).
    """
    c0, c1, c2 = sizes(channels, "conv_block: channels", 3, 3)
    k, size = sizes((kernel, size), "conv_block: (kernel, size)", 2, 2)
    kind = elementwise_name(activation, "conv_block")
    if size < 2 * k - 1:
        raise ValueError(f"conv_block: two kernels of size {k} need images of at least {2 * k - 1}, got {size}")
    shapes = {"W1": (c1, c0, k, k), "b1": (c1,), "W2": (c2, c1, k, k), "b2": (c2,)}

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        return ops.conv(sigma["c"](ops.conv(x, theta["W1"], theta["b1"])), theta["W2"], theta["b2"])

    axes = {"W1": ("c", "x", None, None), "b1": ("c",), "W2": ("y", "c*", None, None), "b2": ("y",)}
    name = f"convolutional {kind} block {c0}-{c1}-{c2}"
    return Arch(name, shapes, axes, forward, {"c": kind}, (None, c0, size, size), (None, "x", None, None))
