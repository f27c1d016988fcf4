"""A torch layer some of whose weights are held."""

import torch
from torch import Tensor, nn

from symlib.guards import check_generator


class AsymmetricLinear(nn.Module):
    """A linear layer on rows, y = x (free * W + fixed)^T + b: W has zeros in `free` where entries of `fixed` hold.

    `free` and `fixed` (out, in) are those of a `Pinning` (0 or 1; 0 where W is free) and buffers, so they are saved,
    moved and copied with the layer.  `weight` is the matrix in force, `learned` the parameter W, whose held entries
    neither matter nor get a gradient.  W and b start uniform in +-1 / sqrt(in), as in torch.nn.Linear.

    Raises ValueError for tensors that are no matrices of one shape and for no generator.

    Source: Lim et al., arXiv 2405.20231, section 2 (W-asymmetric linear layers).
    """

    def __init__(self, free: Tensor, fixed: Tensor, generator: torch.Generator, *, bias: bool = True) -> None:
        super().__init__()
        check_generator(generator, "AsymmetricLinear")
        if free.ndim != 2 or free.shape != fixed.shape:
            got = f"{tuple(free.shape)} and {tuple(fixed.shape)}"
            raise ValueError(f"AsymmetricLinear: free and fixed should be matrices of one shape, got {got}")
        out, width = free.shape

        def uniform(*shape: int) -> nn.Parameter:
            drawn = torch.rand(shape, generator=generator, dtype=fixed.dtype, device=generator.device)
            return nn.Parameter(((2 * drawn - 1) * width**-0.5).to(fixed.device))

        self.free: Tensor
        self.fixed: Tensor
        self.register_buffer("free", free.to(fixed).clone())
        self.register_buffer("fixed", fixed.clone())
        self.learned = uniform(out, width)
        self.bias = uniform(out) if bias else None

    @property
    def weight(self) -> Tensor:
        """The matrix in force, free * W + fixed."""
        return torch.addcmul(self.fixed, self.free, self.learned)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (..., out) for rows (..., in)."""
        return nn.functional.linear(x, self.weight, self.bias)
