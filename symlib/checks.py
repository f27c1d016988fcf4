"""Numerical checks: the size of an error, and the verdict on it, for the laws that every symmetry must obey."""

from collections.abc import Sequence

import torch
from torch import Tensor

from symlib.architectures import Arch
from symlib.groups import Elem
from symlib.symmetry import Params, Symmetry, check_params, flatten, orbit_dimension, unflatten

TOL = {torch.float64: 1e-10, torch.float32: 1e-4}
"""Relative tolerance of each precision; observed errors are near 1e-15 and 1e-6, so the margin is deliberate."""

SCALES = (0.1, 1.0, 10.0)
"""Sizes of the test inputs: data have entries of about 1, and 10 is past the saturation of every activation."""

MOVED = 1e-3  # a group element that moves the parameters by less than this fraction tests nothing


def inputs(arch: Arch, generator: torch.Generator, dtype: torch.dtype, scale: float, samples: int = 16) -> Tensor:
    """Normal random inputs of the given size and shape of the architecture, where the generator is.  Source: ours."""
    shape = [samples if n is None else n for n in arch.inputs]
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64, device=generator.device).to(dtype)


def relative_error(left: Tensor, right: Tensor) -> Tensor:
    """max |left - right| / max |right| in float64; NaN and inf come out as NaN or inf.  Source: ours."""
    left, right = left.double(), right.double()
    return (left - right).abs().max() / right.abs().max().clamp_min(torch.finfo(torch.float64).tiny)


def invariance_error(
    arch: Arch,
    sym: Symmetry,
    *,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    draws: int = 8,
) -> float:
    """The largest relative change of the output, |f(g . theta, x) - f(theta, x)| / |f(theta, x)|.

    Over `draws` parameters and group elements and inputs of sizes 0.1, 1 and 10; computed in `dtype`, compared in
    float64.  NaN when an output is not finite.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, Definition 1.
    """
    return max_error([e for e, _ in _moves(arch, sym, generator, dtype, draws)])


def control_error(
    arch: Arch,
    sym: Symmetry,
    *,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    draws: int = 8,
) -> float:
    """The smallest relative change of the output under random moves as long as the symmetry's own, |g . theta - theta|.

    The control of `invariance_error`: with the same generator state it uses the same parameters and inputs.

    Source: ours.
    """
    return float(torch.stack([c for _, c in _moves(arch, sym, generator, dtype, draws)]).min())


def generator_error(arch: Arch, sym: Symmetry, *, generator: torch.Generator, dtype: torch.dtype, draws: int) -> Tensor:
    """The largest derivative of the output along a generator X_A, over that along a random direction as long.

    A is a random combination of the basis of the Lie algebra; 0 for a discrete group.  The infinitesimal side of
    `invariance_error`: it also sees an algebra that is not that of the group.

    Source: ours.
    """
    zero = torch.zeros((), dtype=torch.float64)
    basis, moved, control = sym.group.algebra_tensor(dtype), [zero], [zero]
    for _ in range(draws if len(basis) else 0):
        theta = arch.init(generator, dtype)
        mixed = torch.randn(len(basis), generator=generator, dtype=torch.float64).to(dtype)
        X = flatten(sym.generator((mixed[:, None, None] * basis).sum(dim=0), theta), arch.shapes)
        other = torch.randn(X.shape, generator=generator, dtype=torch.float64).to(dtype)
        for scale in SCALES:
            x = inputs(arch, generator, dtype, scale)
            for found, v in ((moved, X), (control, other / other.norm() * X.norm())):
                along = unflatten(v, arch.shapes)
                found.append(torch.func.jvp(lambda t, x=x: arch(t, x), (theta,), (along,))[1].double().abs().max())
    tiny = torch.finfo(torch.float64).tiny  # both are zero for the trivial action
    return torch.stack(moved).max() / torch.stack(control).max().clamp_min(tiny)


def max_error(errors: Sequence[Tensor]) -> float:
    """The largest of some errors; NaN if any is NaN.  Source: ours."""
    return float(torch.stack(list(errors)).max())


def _moves(
    arch: Arch, sym: Symmetry, generator: torch.Generator, dtype: torch.dtype, draws: int
) -> list[tuple[Tensor, Tensor]]:
    """For each draw and input size: the output's change under the symmetry, and under a random move as long."""
    if draws < 1:
        raise ValueError(f"draws should be at least 1, got {draws}")
    if dict(sym.shapes) != dict(arch.shapes):
        raise ValueError(f"{sym.name!r} acts on {dict(sym.shapes)}, {arch.name} has {dict(arch.shapes)}")
    out = []
    for _ in range(draws):
        theta = arch.init(generator, dtype)
        moved = sym.act(sym.group.sample(generator, dtype), theta)
        flat, there = flatten(theta, arch.shapes), flatten(moved, arch.shapes)
        direction = torch.randn(flat.shape, generator=generator, dtype=torch.float64).to(dtype)
        random = unflatten(flat + direction / direction.norm() * (there - flat).norm(), arch.shapes)
        random |= {k: random[k].abs() for k in arch.state}  # a variance cannot be negative
        for scale in SCALES:
            x = inputs(arch, generator, dtype, scale)
            y = arch(theta, x)
            out.append((relative_error(arch(moved, x), y), relative_error(arch(random, x), y)))
    return out


def law_errors(
    arch: Arch,
    sym: Symmetry,
    *,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    draws: int = 4,
) -> dict[str, float]:
    """The error of each of the six laws, and the control of the fifth.

    identity |e.theta - theta|, inverse |g^-1.(g.theta) - theta|, composition |(g h).theta - g.(h.theta)|, all relative
    and worst over the draws; moved, the smallest |g.theta - theta| / |theta|; invariance, finite and infinitesimal, and
    its control; and the orbit dimension at one random point.

    Source: ours; the laws of a group action, and Zhao, Walters, Yu, arXiv 2506.13018, Definition 1.
    """
    flat = lambda theta: flatten(theta, arch.shapes)  # noqa: E731
    identity, inverse, composition, moved = [], [], [], []
    theta: Params = {}
    for _ in range(draws):
        theta = arch.init(generator, dtype)
        check_params(theta, sym.shapes, f"laws of {sym.name!r}")
        g, h = sym.group.sample(generator, dtype), sym.group.sample(generator, dtype)
        there = sym.act(g, theta)
        identity.append(relative_error(flat(sym.act(sym.group.identity(dtype), theta)), flat(theta)))
        inverse.append(relative_error(flat(sym.act(g.inverse(), there)), flat(theta)))
        composition.append(relative_error(flat(sym.act(g @ h, theta)), flat(sym.act(g, sym.act(h, theta)))))
        moved.append((flat(there) - flat(theta)).double().norm() / flat(theta).double().norm())
    state = generator.get_state()
    error = invariance_error(arch, sym, generator=generator, dtype=dtype, draws=draws)
    generator.set_state(state)
    control = control_error(arch, sym, generator=generator, dtype=dtype, draws=draws)
    error = max_error([torch.tensor(error), generator_error(arch, sym, generator=generator, dtype=dtype, draws=draws)])
    return {
        "identity": max_error(identity),
        "inverse": max_error(inverse),
        "composition": max_error(composition),
        "moved": float(torch.stack(moved).min()),
        "invariance": error,
        "control": control,
        "orbit dimension": _orbit_dimension(sym, theta),
    }


def _orbit_dimension(sym: Symmetry, theta: Params) -> float:
    try:
        return float(orbit_dimension(sym, theta))
    except ValueError:  # generators that are not finite have no rank
        return float("nan")


def assert_laws(
    arch: Arch,
    sym: Symmetry,
    *,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    draws: int = 4,
    dimension: int | None = None,
    tol: float | None = None,
) -> dict[str, float]:
    """Assert the six laws of a symmetry; returns the errors.

    Identity, inverse, composition, effectiveness (the parameters do move), invariance (with a control that must fail),
    and the orbit dimension, which should be `dimension` (that of the group unless given).  `tol` is relative, from
    `TOL` unless given.  Raises AssertionError naming the law and the numbers; NaN fails every law.

    Source: ours.
    """
    __tracebackhide__ = True
    tol = TOL[dtype] if tol is None else tol
    dimension = sym.group.dimension if dimension is None else dimension
    errors = law_errors(arch, sym, generator=generator, dtype=dtype, draws=draws)
    failed = [f"{law} error {errors[law]:.3g} above {tol:.1g}" for law in _EXACT if not errors[law] <= tol]
    if not errors["moved"] >= MOVED:
        failed.append(f"effectiveness: the parameters moved by {errors['moved']:.3g}, less than {MOVED}")
    if not errors["control"] >= MOVED:
        failed.append(f"control: a random move changed the output by {errors['control']:.3g}, less than {MOVED}")
    if errors["orbit dimension"] != dimension:
        failed.append(f"orbit dimension {errors['orbit dimension']:g}, expected {dimension}")
    if failed:
        raise AssertionError(f"{sym.name} on {arch.name} in {dtype}: " + "; ".join(failed))
    return errors


_EXACT = ("identity", "inverse", "composition", "invariance")


def order(steps: Sequence[float] | Tensor, errors: Sequence[float] | Tensor) -> Tensor:
    """The convergence orders between neighbouring step sizes, log(e_i / e_{i+1}) / log(h_i / h_{i+1}).

    `steps` (k,) and `errors` (k,) or (k, members), positive and finite; the last row belongs to the finest pair.
    Returns (k - 1,) or (k - 1, members).  Raises ValueError for fewer than two steps, steps that are not distinct, and
    steps or errors that are not positive and finite.

    Source: Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, section II.4.
    """
    h, e = torch.as_tensor(steps, dtype=torch.float64), torch.as_tensor(errors, dtype=torch.float64)
    if h.ndim != 1 or len(h) < 2 or e.shape[:1] != h.shape or e.numel() == 0:
        raise ValueError(
            f"order: wanted two or more steps and as many errors, got shapes {tuple(h.shape)} and {tuple(e.shape)}"
        )
    if not all(bool(((v > 0) & v.isfinite()).all()) for v in (h, e)):
        raise ValueError(f"order: steps and errors should be positive and finite, got {h.tolist()} and {e.tolist()}")
    if len(h.unique()) < len(h):
        raise ValueError(f"order: steps should be distinct, got {h.tolist()}")
    h = h.reshape(-1, *[1] * (e.ndim - 1))
    return (e[:-1] / e[1:]).log() / (h[:-1] / h[1:]).log()


def assert_order(
    steps: Sequence[float] | Tensor, errors: Sequence[float] | Tensor, *, expected: float, tol: float
) -> None:
    """Assert that the finest pair has the expected order and that no pair is further from it than the pair before.

    Raises AssertionError with all orders.  Source: ours.
    """
    __tracebackhide__ = True
    orders = order(steps, errors)
    off = (orders - expected).abs()
    if not bool((off[-1] <= tol).all()) or not bool((off[1:] <= off[:-1] + 0.1 * tol).all()):
        raise AssertionError(f"orders {orders.tolist()} do not tend to {expected} within {tol}")


def element(g: Tensor) -> Elem:
    """A group element from an invertible matrix.  Raises ValueError when it is singular.  Source: ours."""
    inverse, info = torch.linalg.inv_ex(g)
    if bool(info):
        raise ValueError("element: the matrix is singular")
    return Elem(g, inverse)
