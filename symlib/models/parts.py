"""What the modules are made of: the base class, layers drawn from a generator, the actions about a normalisation."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from symlib import groups
from symlib.activations import Family, named_activation
from symlib.architectures import Arch
from symlib.groups import Elem
from symlib.models.statistics import called, entries
from symlib.symmetry import Axes, Params, Shapes, Symmetry, check_params, from_axes

Label = str | None
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)
DIAGONAL: tuple[Family, ...] = (groups.rescaling, groups.sign_flip)  # what an elementwise scale and shift let through
SOURCE = "Ainsworth et al., arXiv 2209.04836 (axis tables of real networks); duals and scales ours"


class Model(nn.Module):
    """A module that knows the axes of its parameters.  Abstract: a model fills in the fields below.

    `axes` is the axis table of its parameters (running statistics have the axes of the scale of their norm) and
    `kinds` the activation of each space ("sum": no more than a sum runs over it); `tied` builds from the shapes the
    symmetries that those two do not give.
    """

    label: str
    axes: dict[str, tuple[Label, ...]]
    kinds: dict[str, str]
    inputs: tuple[int | None, ...]
    input_axes: tuple[Label, ...]

    @property
    def arch(self) -> Arch:
        """The architecture of the module, over exactly its named parameters and, as state, its running statistics.

        `model.state_dict()` are parameters of it, and those that `torch.func.stack_module_state(models)` returns, in
        one dictionary, are those of several members, for `torch.func.vmap(arch, (0, None))`.  It is always in
        evaluation mode.  `arch.init` draws a generic point, norm scales included, for checks; training should start
        where the module was initialised.
        """
        shapes = {k: tuple(v.shape) for k, v in entries(self).items()}
        state = frozenset(k for k, _ in self.named_buffers())
        axes = {**self.axes, **{k: self.axes[f"{k.rpartition('.')[0]}.weight"] for k in state}}
        forward = forward_of(copy.deepcopy(self).eval() if state else self, self.label)
        about = (self.kinds, self.inputs, self.input_axes, tuple(self.tied(shapes)))
        return Arch(self.label, shapes, axes, forward, *about, state=state)

    def batch_forward(self, theta: Params, x: Tensor) -> Tensor:
        """The output where every BatchNorm uses the statistics of the batch x: for training.

        `theta` may leave the running statistics out; they are neither used nor changed.
        """
        statistics = [k for k, _ in self.named_buffers()]
        learned = {k: v for k, v in theta.items() if k not in statistics}
        shapes = {k: tuple(v.shape) for k, v in self.named_parameters()}
        check_params(learned, shapes, self.label, members=False, finite=False)
        return called(self, learned, x, without=statistics)

    def tied(self, shapes: Shapes) -> list[Symmetry]:
        """The symmetries beyond axes and activations."""
        return []


def forward_of(module: nn.Module, what: str) -> Callable[[Params, Tensor, Mapping[str, Callable]], Tensor]:
    """The forward pass of an `Arch` that a module computes.  Source: ours."""

    def forward(theta: Params, x: Tensor, sigma: Mapping[str, Callable]) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"{what}: a module takes tensors; proofs are for architectures.CATALOGUE")
        return called(module, theta, x)

    return forward


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


def along_mean(axes: Axes, space: str, shapes: Shapes) -> Symmetry:
    """Each row that is written to a space moves along (1, ..., 1), which every LayerNorm of the space takes off.

    Source: ours.
    """
    at = {k: labels.index(space) for k, labels in axes.items() if space in labels and "norm" not in k}
    shifts = {k: (*shapes[k][:i], 1, *shapes[k][i + 1 :]) for k, i in at.items()}
    counts = [math.prod(s) for s in shifts.values()]

    def act(element: Elem, theta: Params) -> dict[str, Any]:
        parts = element.g[:-1, -1].split(counts)
        return {**theta, **{k: theta[k] + v.reshape(s) for (k, s), v in zip(shifts.items(), parts, strict=True)}}

    return Symmetry(f"translation {space}", groups.translation(sum(counts)), act, shapes)


def along_parts(keys: Sequence[str], space: str, parts: int, shapes: Shapes) -> Symmetry:
    """Vectors of a space move together, by one number for each of `parts` stretches of neighbours.

    That is what a normalisation with groups, or one of single channels with its running mean, takes off a bias.

    Source: ours.
    """
    width = shapes[keys[0]][0] // parts

    def act(element: Elem, theta: Params) -> dict[str, Any]:
        move = element.g[:-1, -1].repeat_interleave(width)
        return {**theta, **{k: theta[k] + move for k in keys}}

    return Symmetry(f"translation {space}", groups.translation(parts), act, shapes)


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
