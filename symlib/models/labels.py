"""Any torch module as an architecture, by an axis table that is written for it and tested before it is believed."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor, nn

from symlib.activations import named_activation
from symlib.architectures import Arch
from symlib.checks import inputs as random_inputs
from symlib.checks import relative_error
from symlib.groups import Elem
from symlib.guards import check_generator
from symlib.models.parts import Label, forward_of
from symlib.models.statistics import entries, norms, reset_statistics
from symlib.symmetry import Axes, Params, Shapes, Symmetry, from_axes

TOL = 1e-9  # relative change of the output, in float64, up to which a table passes; right ones stay near 1e-15
DRAWS, SAMPLES = 3, 8  # every claim is tested at three parameters, group elements and batches of eight inputs
Place = tuple[Elem, Params, Tensor, Tensor]  # g, theta, x, f(theta, x)


def labelled(
    module: nn.Module,
    axes: Axes,
    activations: Mapping[str, str],
    *,
    inputs: Sequence[int | None],
    generator: torch.Generator,
    input_axes: Sequence[Label] | None = None,
    name: str | None = None,
) -> Arch:
    """The architecture of a torch module by an axis table, after a test that its claims leave the function unchanged.

    `axes` labels every parameter, and every buffer of floating-point numbers, which are state: None for an axis that no
    group acts on, a space, or a space with a star where the dual acts.  `activations` names what stands on each space
    ("sum" where only its permutations are claimed, as before and behind a norm).  `inputs` is the shape of one input,
    None for the number of samples.  The module is copied, and is in evaluation mode.

    Each symmetry that the table claims is tested in float64: |f(g . theta, x) - f(theta, x)| <= 1e-9 |f(theta, x)| at
    random g and x, and theta around the parameters of the module, running statistics as they are on x.  Raises
    ValueError when the test fails, with the parameter and its labels that would bring the error down most; when the
    output does not depend on a space; for a table that names a parameter which the module lacks, or lacks one that it
    has; for labels that do not fit the shapes, sizes that differ within a space, a space without labels, and an unknown
    activation; and where `reset_statistics` does.

    Source: the tables and their test, Ainsworth et al., arXiv 2209.04836, and our reading of its public code.
    """
    what = name or type(module).__name__
    check_generator(generator, f"labelled {what}")
    shapes = {k: tuple(v.shape) for k, v in entries(module).items()}
    check_table(what, axes, shapes, activations)
    state = frozenset(shapes) - {k for k, _ in module.named_parameters()}
    shape, about = tuple(inputs), tuple(input_axes) if input_axes else (None,) * len(inputs)
    module = copy.deepcopy(module).eval()
    forward = forward_of(module, what)
    table = {k: tuple(axes[k]) for k in shapes}
    arch = Arch(what, shapes, table, forward, dict(activations), shape, about, state=state)
    points = [_point(arch, module, generator) for _ in range(DRAWS)]
    for sym in arch.symmetries().values():
        _test(arch, sym, [(sym.group.sample(generator), *point) for point in points])
    return arch


def check_table(what: str, axes: Axes, shapes: Shapes, activations: Mapping[str, str]) -> None:
    """Raise ValueError unless an axis table and its activations fit the shapes of the parameters.  Source: ours."""
    if axes.keys() != shapes.keys():
        missing, extra = [k for k in shapes if k not in axes], [k for k in axes if k not in shapes]
        raise ValueError(
            f"axis table of {what}: lacks {', '.join(missing) or 'nothing'}, "
            f"names {', '.join(extra) or 'nothing'} that the module does not have"
        )
    sizes: dict[str, dict[int, str]] = {}
    for key, labels in axes.items():
        if isinstance(labels, str) or len(labels) != len(shapes[key]):
            raise ValueError(f"axis table of {what}: {key} of shape {shapes[key]} has the labels {labels!r}")
        for label, n in zip(labels, shapes[key], strict=True):
            if label is not None:
                sizes.setdefault(label.rstrip("*"), {}).setdefault(n, key)
    for space, found in sizes.items():
        if len(found) > 1:
            places = ", ".join(f"{n} in {key}" for n, key in found.items())
            raise ValueError(f"axis table of {what}: the space {space!r} has several sizes, {places}")
    for space, kind in activations.items():
        unknown = [part for part in space.split() if part not in sizes]
        if unknown or not space.split():
            raise ValueError(f"axis table of {what}: no axis is labelled {space!r}; spaces are {', '.join(sizes)}")
        named_activation(kind)


def _test(arch: Arch, sym: Symmetry, places: Sequence[Place]) -> None:
    """Raise ValueError unless a claim of the table holds, at places where the output depends on the space."""
    error = float(torch.stack([_error(arch, sym, *place) for place in places]).max())
    if not error <= TOL:
        key, labels, least = _worst(arch, sym, places)
        raise ValueError(
            f"axis table of {arch.name}: {sym.name} changes the output by {error:.2g} of its size; the worst "
            f"parameter is {key}, labelled {_text(arch.axes[key])}: with {_text(labels)} it would be {least:.2g}"
        )
    moved = [k for k, labels in arch.axes.items() if set(sym.space.split()) <= _spaces(labels)]
    if all(bool(_error(arch, _alone(sym, k), *place) <= TOL) for k in moved for place in places):
        raise ValueError(f"axis table of {arch.name}: the output does not depend on the space {sym.space!r}")


@torch.no_grad()
def _point(arch: Arch, module: nn.Module, generator: torch.Generator) -> tuple[Params, Tensor, Tensor]:
    """Generic parameters near those of the module, inputs, and the output there.

    A deep network has dead units at most other parameters; for the same reason its running statistics are measured.
    """
    x = random_inputs(arch, generator, torch.float64, 1.0, SAMPLES)
    theta = {k: v.detach().double().cpu() for k, v in entries(module).items()}
    theta = {k: theta[k] + v / 4 for k, v in arch.init(generator).items()}
    theta = reset_statistics(module, theta, x) if norms(module) else theta
    return theta, x, arch(theta, x)


@torch.no_grad()
def _error(arch: Arch, sym: Symmetry, element: Elem, theta: Params, x: Tensor, y: Tensor) -> Tensor:
    """max |f(g . theta, x) - f(theta, x)| / max |f(theta, x)|."""
    return relative_error(arch(sym.act(element, theta), x), y)


def _worst(arch: Arch, sym: Symmetry, places: Sequence[Place]) -> tuple[str, tuple[Label, ...], float]:
    """The parameter and the labels for it with which the largest error is least, and that error."""
    key = next(iter(arch.axes))
    found = key, arch.axes[key], math.inf
    for key, labels, other in _relabelled(arch, sym):
        error = 0.0
        for place in places:
            here = float(_error(arch, other, *place))
            if not here < found[-1]:
                break
            error = max(error, here)
        else:
            found = key, labels, error
    return found


def _relabelled(arch: Arch, sym: Symmetry) -> Iterator[tuple[str, tuple[Label, ...], Symmetry]]:
    """The action by every table in which one parameter has other labels for the space."""
    space, n = sym.space, sym.group.n
    if len(space.split()) > 1:
        for key, labels in arch.axes.items():
            if set(space.split()) <= _spaces(labels):
                less = tuple(None if a and a.rstrip("*") in space.split() else a for a in labels)
                yield key, less, _but(sym, key)
        return
    offered = (space, f"{space}*") if sym.group.dimension else (space,)  # a permutation is its own dual
    for key, labels in arch.axes.items():
        kept = [None if a and a.rstrip("*") == space else a for a in labels]
        choices = [(a, *offered) if size == n else (a,) for a, size in zip(kept, arch.shapes[key], strict=True)]
        for other in product(*choices):
            table = {**arch.axes, key: other}
            if any(space in _spaces(row) for row in table.values()):
                yield key, other, from_axes(table, space, sym.group, shapes=arch.shapes)


def _spaces(labels: tuple[Label, ...]) -> set[str]:
    return {a.rstrip("*") for a in labels if a}


def _but(sym: Symmetry, key: str) -> Symmetry:
    """The action on all parameters but one."""
    return replace(sym, act=lambda element, theta: {**sym.act(element, theta), key: theta[key]})


def _alone(sym: Symmetry, key: str) -> Symmetry:
    """The action on one parameter only."""
    return replace(sym, act=lambda element, theta: {**theta, key: sym.act(element, theta)[key]})


def _text(labels: tuple[Label, ...]) -> str:
    return f"({' '.join(a or '.' for a in labels)})"
