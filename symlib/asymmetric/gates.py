"""Networks whose activation is a fixed gate."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from symlib import groups, ops
from symlib.activations import named_activation
from symlib.architectures import Arch
from symlib.asymmetric.commuting import Monomial, element, monomials
from symlib.asymmetric.pinning import with_scales
from symlib.checks import inputs
from symlib.groups import Elem
from symlib.guards import check_finite, check_generator, check_known, real
from symlib.ops import M
from symlib.symmetry import Params, Symmetry, from_axes


def figlu(z: M, F: M, axis: int = -2) -> M:
    """The fixed gated linear unit eta(F z) * z, eta(t) = 1 / (1 + exp(-t)), with F (n, n) along an axis of z of size n.

    Tensors, with leading member axes, or sympy matrices; for images (.., n, height, width) the axis is -3.

    Source: Lim et al., arXiv 2405.20231, section 2 (FiGLU).
    """
    eta = named_activation("sigmoid").fn
    assert eta is not None
    return ops.times(eta(F @ z if axis == -2 else ops.act_axis(z, F, axis)), z)


@dataclass(frozen=True)
class Gated:
    """A network with the gate eta(F z) * z in place of the activation of some hidden spaces, F fixed.

    `matrices` maps each of these spaces to its F (n, n); `arch` is the network.

    Raises ValueError for spaces without an elementwise activation, matrices of another size, NaN or inf, and a forward
    pass that does not take its activations from outside (a module).

    Source: Lim et al., arXiv 2405.20231, section 2 (sigma-asymmetric networks).
    """

    base: Arch
    matrices: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        known = gateable(self.base)
        if "x" not in self.base.input_axes:
            raise ValueError(
                f"gates: an axis of the inputs of {self.base.name} should be x, got {self.base.input_axes}"
            )
        for space, F in self.matrices.items():
            check_known(space, known, f"space with an activation of {self.base.name}")
            n = self.base.size(space)
            if tuple(F.shape) != (n, n):
                raise ValueError(f"gates: the matrix of {space} should be {n} x {n}, got {tuple(F.shape)}")
            check_finite(F, f"gates: the matrix of {space}")
        met: set[str] = set()
        one = torch.zeros([1 if n is None else n for n in self.base.inputs], dtype=torch.float64)
        theta = {k: torch.ones(s, dtype=torch.float64) for k, s in self.base.shapes.items()}
        functions = self.base.functions()
        self.base.forward(theta, one, {s: _noting(met, s, fn) for s, fn in functions.items()})
        if idle := [s for s in self.matrices if s not in met]:
            raise ValueError(f"gates: the forward pass of {self.base.name} does not take an activation for {idle}")

    def to(self, device: torch.device, dtype: torch.dtype) -> "Gated":
        """The same network with its matrices on a device, in a dtype."""
        return Gated(self.base, {s: F.to(device, dtype) for s, F in self.matrices.items()})

    @cached_property
    def arch(self) -> Arch:
        """The network, with the linear symmetries that remain.

        In a space with a gate those of `figlu_equivariances`, in the other spaces all, and of the symmetries that are
        no axis action those that still hold.  A gate's, and the latter, are kept if a random network says so, in
        float64: what stands before the gate, such as a LayerNorm, may not let them through.
        """
        base = self.base
        axis = base.input_axes.index("x") - len(base.input_axes)

        def gate(F: Tensor) -> Callable[[M], M]:
            return lambda z: figlu(z, F.to(z) if isinstance(z, Tensor) else _exact(F, z), axis)

        gates = {s: gate(F) for s, F in self.matrices.items()}

        def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
            return base.forward(theta, x, {**base.functions(), **gates, **sigma})

        activations = {s: "own" if s in gates else a for s, a in base.activations.items()}
        bare = replace(base, name=f"{base.name}, gated", forward=forward, activations=activations, tied=())
        own = [sym for s, F in self.matrices.items() for sym in _kept(bare, s, monomials(F))]
        generator = torch.Generator().manual_seed(0)
        tied = [sym for sym in base.tied if _holds(bare, sym, sym.group.sample(generator))]
        return replace(bare, tied=(*own, *tied))


def sigma_asymmetric(arch: Arch, *, generator: torch.Generator, scale: float | Mapping[str, float]) -> Gated:
    """A sigma-asymmetric network: eta(F z) * z in place of every activation, with fixed F of entries N(0, scale^2).

    `scale` is a standard deviation, one for all hidden spaces or one for each of those that get a gate; the paper took
    1, 1 / sqrt(n) and 0.01 / sqrt(n).  Networks that are to be compared should share the result.  For a network that is
    W-asymmetric as well, hold entries of the gated one.

    Raises ValueError for no hidden space with an activation, a network with gates or entries held already, a scale that
    is not positive and finite, and no generator.

    Source: Lim et al., arXiv 2405.20231, section 2, and its code (scales).
    """
    check_generator(generator, "sigma_asymmetric")
    known = gateable(arch)
    if own := [s for s, a in arch.activations.items() if a == "own"]:
        raise ValueError(f"sigma_asymmetric: the activation of {', '.join(own)} is {arch.name}'s own; gates come first")
    scales = scale if isinstance(scale, Mapping) else dict.fromkeys(known, scale)
    if not scales:
        raise ValueError(f"sigma_asymmetric: {arch.name} has no hidden space with an activation to replace")
    matrices = {}
    for space, std in scales.items():
        check_known(space, known, f"space with an activation of {arch.name}")
        if not 0 < real(std, f"sigma_asymmetric: scale of {space}") < math.inf:
            raise ValueError(f"sigma_asymmetric: the scale of {space} should be positive and finite, got {std}")
        n = arch.size(space)
        drawn = torch.randn(n, n, generator=generator, dtype=torch.float64, device=generator.device)
        matrices[space] = std * drawn
    return Gated(arch, matrices)


def gateable(arch: Arch) -> list[str]:
    """The hidden spaces with an elementwise activation that is not the identity.  Source: ours."""
    found = {s: named_activation(a) for s, a in arch.activations.items()}
    return [s for s, a in found.items() if a.fn and a.is_elementwise and a.name not in ("linear", "nonnegative")]


def _noting(met: set[str], space: str, fn: Callable[[M], M]) -> Callable[[M], M]:
    def note(z: M) -> M:
        met.add(space)
        return fn(z)

    return note


def _exact(F: Tensor, like: M) -> M:
    return type(like)([[Fraction(v) for v in row] for row in F.tolist()])


def _holds(arch: Arch, sym: Symmetry, element: Elem) -> bool:
    """Whether an element leaves a random network alone."""
    generator = torch.Generator().manual_seed(1)
    theta = arch.init(generator)
    x = inputs(arch, generator, torch.float64, 1.0)
    return torch.allclose(arch(sym.act(element, theta), x), arch(theta, x), rtol=1e-9, atol=1e-12)


def _kept(arch: Arch, space: str, found: list[Monomial]) -> list[Symmetry]:
    """The monomial maps of a space that are symmetries of the network, as one group; none if that is trivial.

    A finite group of monomial matrices is one of signed permutations in other units: c_k = |d| on the way to k from the
    first unit of its orbit.
    """
    claim, n = arch.claim(space, groups.permutation), arch.size(space)
    elements = [g for g in found if len(found) > 1 and _holds(arch, claim, element(g))]
    if len(elements) < 2:
        return []
    first = [min(g[k][0] for g in elements) for k in range(n)]
    c = [next(abs(g[r][1]) for g in elements if g[r][0] == k) for k, r in enumerate(first)]
    signed = [{(i, k): int(d * c[k] / c[i]) for k, (i, d) in enumerate(g)} for g in elements]
    group = groups.finite("signed permutation", n, signed)
    sym = from_axes(arch.axes, space, group, shapes=arch.shapes, name=f"gate symmetry {space}")
    return [sym if len(set(c)) == 1 else with_scales(sym, c)]
