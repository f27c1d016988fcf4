"""Activations: functions on a hidden space that mean the same in both worlds, and the groups they commute with."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import sympy
import torch

from symlib import groups, ops
from symlib.groups import Group
from symlib.ops import M, Step

Family = Callable[[int], Group]


@dataclass(frozen=True)
class Activation:
    """A function on a hidden space and the groups it commutes with: sigma(g z) = g sigma(z)."""

    name: str
    fn: Callable[[M], M] | None
    families: tuple[Family, ...]
    is_elementwise: bool = True


def _elementwise(name: str, torch_fn: Callable, scalar_fn: Callable, *families: Family) -> Activation:
    fn = partial(ops.elementwise, torch_fn=torch_fn, scalar_fn=scalar_fn)
    return Activation(name, fn, (groups.permutation, *families))


def _gelu(z: sympy.Expr) -> sympy.Expr:
    return z * (1 + sympy.erf(z / sympy.sqrt(2))) / 2


def _rms(z: M) -> M:
    return ops.radial(z, torch_fn=torch.rsqrt, scalar_fn=lambda q: 1 / sympy.sqrt(q))


def _gaussian(z: M) -> M:
    return ops.radial(z, torch_fn=lambda q: torch.exp(-q), scalar_fn=lambda q: sympy.exp(-q))


SLOPE = sympy.Rational(1, 100)  # of leaky ReLU, PyTorch's default

ACTIVATIONS: Mapping[str, Activation] = {
    a.name: a
    for a in (
        Activation("linear", lambda z: z, (groups.general_linear,)),
        _elementwise("relu", torch.relu, lambda z: z * Step(z), groups.rescaling),
        _elementwise(
            "leaky-relu",
            partial(torch.nn.functional.leaky_relu, negative_slope=float(SLOPE)),
            lambda z: z * (SLOPE + (1 - SLOPE) * Step(z)),
            groups.rescaling,
        ),
        _elementwise("tanh", torch.tanh, sympy.tanh, groups.sign_flip),
        _elementwise("sin", torch.sin, sympy.sin, groups.sign_flip),
        _elementwise("erf", torch.erf, sympy.erf, groups.sign_flip),
        _elementwise("tanhshrink", torch.nn.functional.tanhshrink, lambda z: z - sympy.tanh(z), groups.sign_flip),
        _elementwise("softsign", torch.nn.functional.softsign, lambda z: z / (1 + sympy.Abs(z)), groups.sign_flip),
        Activation("nonnegative", lambda z: z, (groups.permutation, groups.rescaling)),
        _elementwise("gelu", torch.nn.functional.gelu, _gelu),
        _elementwise("silu", torch.nn.functional.silu, lambda z: z / (1 + sympy.exp(-z))),
        _elementwise("mish", torch.nn.functional.mish, lambda z: z * sympy.tanh(sympy.log(1 + sympy.exp(z)))),
        _elementwise("sigmoid", torch.sigmoid, lambda z: 1 / (1 + sympy.exp(-z))),
        _elementwise("softplus", torch.nn.functional.softplus, lambda z: sympy.log(1 + sympy.exp(z))),
        _elementwise("elu", torch.nn.functional.elu, lambda z: z * Step(z) + (sympy.exp(z) - 1) * Step(-z)),
        Activation("radial", _gaussian, (groups.orthogonal,), is_elementwise=False),
        Activation("rms-norm", _rms, (groups.orthogonal,), is_elementwise=False),
        Activation("softmax", ops.softmax, (), is_elementwise=False),
        Activation("sum", None, (groups.permutation,), is_elementwise=False),
        Activation("own", None, (), is_elementwise=False),
    )
}
"""Activation name -> function and commuting groups (not always all of them).

"nonnegative" is the identity between factors that are kept positive, where only permutations and positive scales act;
"power-r" (r = 2, 3, ...) is z^r, made when it is asked for; "radial" is z exp(-|z|^2); "rms-norm" is z / |z|; "softmax"
acts on columns; "sum" marks a space that the forward pass only sums over, such as the heads of an attention layer, and
"own" one whose function the forward pass brings along and no group is known to commute with, such as a gate.  Odd
up to a constant (sigmoid) or up to a linear term (ReLU, GELU, softplus) is not a linear action on the parameters and is
not listed.
"""


def named_activation(name: str, *, offer: Iterable[str] = ACTIVATIONS) -> Activation:
    """The activation of that name ("leaky_relu" and "leaky-relu" are one).

    Raises ValueError for an unknown name, with those on offer.  Source: ours.
    """
    key = name.replace("_", "-") if isinstance(name, str) else ""
    if match := re.fullmatch(r"power-([2-9]|[1-9]\d+)", key):
        r = int(match[1])
        return _elementwise(key, lambda z: z**r, lambda z: z**r, *((groups.sign_flip,) if r % 2 else ()))
    if key not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known are {', '.join(offer)}")
    return ACTIVATIONS[key]


def monomial(name: str) -> tuple[Family, ...]:
    """The permutations, scales and signs among the groups that an activation commutes with.  Source: ours."""
    found = named_activation(name).families
    if groups.general_linear in found:
        return groups.permutation, groups.rescaling, groups.sign_flip
    return (groups.permutation, groups.sign_flip) if groups.orthogonal in found else found


def elementwise_name(name: str, what: str) -> str:
    """The name of an elementwise activation as the table has it.  Raises ValueError for any other.  Source: ours."""
    kind = named_activation(name, offer=[k for k, a in ACTIVATIONS.items() if a.is_elementwise])
    if not kind.is_elementwise:
        raise ValueError(f"{what}: activation {kind.name!r} is not elementwise")
    return kind.name
