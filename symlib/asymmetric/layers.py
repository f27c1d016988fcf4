"""Torch layers some of whose weights are held, and the gate as a layer."""

import torch
from torch import Tensor, nn

from symlib.asymmetric.gates import figlu
from symlib.guards import check_generator


class _Asymmetric(nn.Module):
    """A layer with the weight free * W + fixed, where `free` is 0 and `fixed` holds.  Abstract: a layer applies it."""

    kind: str
    axes: int

    def __init__(self, free: Tensor, fixed: Tensor, generator: torch.Generator, *, bias: bool = True) -> None:
        super().__init__()
        name = type(self).__name__
        check_generator(generator, name)
        if free.ndim != self.axes or free.shape != fixed.shape:
            got = f"{tuple(free.shape)} and {tuple(fixed.shape)}"
            raise ValueError(f"{name}: free and fixed should be {self.kind} of one shape, got {got}")

        def uniform(*shape: int) -> nn.Parameter:
            drawn = torch.rand(shape, generator=generator, dtype=fixed.dtype, device=generator.device)
            return nn.Parameter(((2 * drawn - 1) * free[0].numel() ** -0.5).to(fixed.device))

        self.free: Tensor
        self.fixed: Tensor
        self.register_buffer("free", free.to(fixed).clone())
        self.register_buffer("fixed", fixed.clone())
        self.learned = uniform(*free.shape)
        self.bias = uniform(len(free)) if bias else None

    @property
    def weight(self) -> Tensor:
        """The weight in force, free * W + fixed."""
        return torch.addcmul(self.fixed, self.free, self.learned)


class AsymmetricLinear(_Asymmetric):
    """A linear layer on rows, y = x (free * W + fixed)^T + b: W has zeros in `free` where entries of `fixed` hold.

    `free` and `fixed` (out, in) are those of a `Pinning` (0 or 1; 0 where W is free) and buffers, so they are saved,
    moved and copied with the layer.  `weight` is the matrix in force, `learned` the parameter W, whose held entries
    neither matter nor get a gradient.  W and b start uniform in +-1 / sqrt(in), as in torch.nn.Linear.

    Raises ValueError for tensors that are no matrices of one shape and for no generator.

    Source: Lim et al., arXiv 2405.20231, section 2 (W-asymmetric linear layers).
    """

    kind, axes = "matrices", 2

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (..., out) for rows (..., in)."""
        return nn.functional.linear(x, self.weight, self.bias)


class AsymmetricConv2d(_Asymmetric):
    """A convolution with the kernel free * W + fixed (out, in, k, k): single entries or whole filters are held.

    All else is as in `AsymmetricLinear`.  W and b start uniform in +-1 / sqrt(in k k), as in torch.nn.Conv2d.

    Raises ValueError for tensors that are no kernels of one shape and for no generator.

    Source: Lim et al., arXiv 2405.20231, section 2 (W-asymmetric convolutions).
    """

    kind, axes = "kernels", 4

    def __init__(
        self,
        free: Tensor,
        fixed: Tensor,
        generator: torch.Generator,
        *,
        bias: bool = True,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__(free, fixed, generator, bias=bias)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, in, height, width) to images (n, out, ...)."""
        return nn.functional.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class FiGLU(nn.Module):
    """The gate eta(F z) * z as a layer: F (n, n) is fixed, a buffer, and acts on an axis of z of size n.

    On rows the axis is the last; for images (.., n, height, width) it is -3, a 1 x 1 convolution.

    Raises ValueError for an F that is not square.

    Source: Lim et al., arXiv 2405.20231, section 2 (FiGLU).
    """

    def __init__(self, F: Tensor, *, axis: int = -1) -> None:
        super().__init__()
        if F.ndim != 2 or F.shape[0] != F.shape[1]:
            raise ValueError(f"FiGLU: the matrix should be square, got {tuple(F.shape)}")
        self.F: Tensor
        self.register_buffer("F", F.clone())
        self.axis = axis

    def forward(self, z: Tensor) -> Tensor:
        """The gated z, of its shape."""
        return figlu(z, self.F, self.axis)
