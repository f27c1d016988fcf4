"""What the modules are made of: the base class, layers drawn from a generator, the action behind a normalisation."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from symlib import groups
from symlib.activations import Family, named_activation
from symlib.architectures import Arch
from symlib.symmetry import Axes, Params, Shapes, Symmetry, from_axes

Label = str | None
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)
DIAGONAL: tuple[Family, ...] = (groups.rescaling, groups.sign_flip)  # what an elementwise scale and shift let through
SOURCE = "Ainsworth et al., arXiv 2209.04836 (axis tables of real networks); duals and scales ours"


class Model(nn.Module):
    """A module that knows the axes of its parameters.  Abstract: a model fills in the fields below.

    `axes` is its axis table and `kinds` the activation of each space ("sum": no more than a sum runs over it);
    `tied` builds from the shapes the symmetries that those two do not give.
    """

    label: str
    axes: dict[str, tuple[Label, ...]]
    kinds: dict[str, str]
    inputs: tuple[int | None, ...]
    input_axes: tuple[Label, ...]

    @property
    def arch(self) -> Arch:
        """The architecture of the module, over exactly its named parameters.

        `dict(model.named_parameters())` are parameters of it, and `torch.func.stack_module_state(models)[0]` those of
        several members, for `torch.func.vmap(arch, (0, None))`.  `arch.init` draws a generic point, norm scales
        included, for checks; training should start where the module was initialised.
        """
        shapes = {k: tuple(p.shape) for k, p in self.named_parameters()}
        tied = tuple(self.tied(shapes))
        return Arch(self.label, shapes, self.axes, self._call, self.kinds, self.inputs, self.input_axes, tied)

    def tied(self, shapes: Shapes) -> list[Symmetry]:
        """The symmetries beyond axes and activations."""
        return []

    def _call(self, theta: Params, x: Tensor, sigma: Mapping[str, Callable]) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"{self.label}: a module takes tensors; proofs are for architectures.CATALOGUE")
        # row-major: an action may transpose a kernel in memory, and GroupNorm under vmap refuses what follows from that
        parts = {k: v.flatten().reshape(v.shape) for k, v in theta.items()}
        return functional_call(self, parts, (x,), strict=True)


def behind(axes: Axes, space: str, family: Family, shapes: Shapes, what: str) -> Symmetry:
    """A group on what leaves normalisations: g on their scale and shift, the dual on what reads them, no more.

    Raises ValueError when nothing in the table is labelled with the space.  Source: ours.
    """

    def kept(key: str, label: Label) -> Label:
        return label if label == f"{space}*" or (label == space and "norm" in key) else None

    table = {k: tuple(kept(k, a) for a in labels) for k, labels in axes.items()}
    group = family(space_size(axes, space, shapes))
    return from_axes(table, space, group, shapes=shapes, name=f"{group.name} behind {what}", source=SOURCE)


def space_size(axes: Axes, space: str, shapes: Shapes) -> int:
    """The size of a space.  Raises ValueError when no axis carries it.  Source: ours."""
    found = [shapes[k][labels.index(space)] for k, labels in axes.items() if space in labels]
    if not found:
        raise ValueError(f"no axis is labelled {space!r}")
    return found[0]


def norm_axes(name: str, space: str) -> dict[str, tuple[Label, ...]]:
    """The axes of the scale and shift of a normalisation.  Source: ours."""
    return {f"{name}.weight": (space,), f"{name}.bias": (space,)}


def weight(generator: torch.Generator, fan_in: int, *shape: int) -> nn.Parameter:
    """A parameter N(0, 1 / fan_in), drawn in float64 where the generator is, kept on the CPU in the default dtype.

    Source: LeCun et al., Efficient BackProp, 1998, section 4.6.
    """
    values = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device) / fan_in**0.5
    return nn.Parameter(values.to("cpu", torch.get_default_dtype()))


def drawn(layer: Layer, generator: torch.Generator) -> Layer:
    """The layer with weights N(0, 1 / fan_in) and biases 0; build it on the meta device, where nothing is drawn.

    Source: ours.
    """
    layer.weight = weight(generator, layer.weight[0].numel(), *layer.weight.shape)
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.zeros(layer.bias.shape))
    return layer


def linear(n: int, m: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    """The affine map of rows (.., n) to rows (.., m).  Source: torch.nn.Linear."""
    return drawn(nn.Linear(n, m, bias=bias, device="meta"), generator)


def applied(activation: str, z: Tensor) -> Tensor:
    """The activation of that name at z, looked up here so that a module holds no function.  Source: ours."""
    fn = named_activation(activation).fn
    assert fn is not None
    return fn(z)


def check_divides(a: int, b: int, what: str) -> None:
    """Raise ValueError unless a divides b.  Source: ours."""
    if b % a:
        raise ValueError(f"{what}: {a} should divide {b}")
