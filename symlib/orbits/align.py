"""Aligning two networks of one architecture: the element of its symmetries that carries one closest to the other."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from symlib import groups
from symlib.activations import Family, monomial
from symlib.architectures import Arch
from symlib.checks import inputs as random_inputs
from symlib.checks import relative_error
from symlib.groups import Elem
from symlib.guards import check_generator, check_known, check_positive
from symlib.orbits.ascent import Pair, ascend, rows
from symlib.orbits.moves import Move, carry, identity, moved
from symlib.orbits.scores import best_move
from symlib.symmetry import Axes, Params, check_params

Theta = dict[str, Tensor]
METHODS = ("weights", "activations")
AGREES = 1e-9  # relative difference of outputs that is still rounding


@dataclass(frozen=True)
class Alignment:
    """A network b carried toward a network a: `theta` = g . b, where `moves` (space -> Move) are g.

    `objective` has the values of the kept start: before, then after each of the `sweeps` over the spaces.
    """

    theta: Theta
    moves: dict[str, Move]
    objective: tuple[float, ...]
    sweeps: int

    @property
    def elements(self) -> dict[str, Elem]:
        """The moves as dense elements."""
        return {space: move.element for space, move in self.moves.items()}


def align(
    arch: Arch,
    theta_a: Params,
    theta_b: Params,
    *,
    generator: torch.Generator,
    method: str = "weights",
    inputs: Tensor | None = None,
    scales: bool = True,
    restarts: int = 1,
    max_sweeps: int = 100,
) -> Alignment:
    """The network b carried toward a by a permutation in each hidden space, with signs and scales where there are any.

    "weights" maximises <a, g b> - |g b|^2 / 2 + |b|^2 / 2 over all learned parameters, biases and norms too: the inner
    product for permutations and signs, minus half of |a - g b|^2 up to a constant with scales.  Space by space, in
    random order, the best move is found exactly with the others held (an assignment), until a sweep gains nothing: the
    objective never falls, and ends at a local maximum unless there is one hidden space.  The first start is b itself,
    and its first sweep goes outward from inputs and outputs, by the tensors that are aligned already; the other
    `restarts` - 1 begin at random permutations and signs, the best is kept.  "activations" maximises the same over the
    outputs of the hidden units at `inputs`, in one assignment a space.

    The moves are those that `arch.activations` allows, of general linear and orthogonal groups the monomial ones;
    without `scales` they are permutations alone, no signs either, as published: several times as fast where there are
    positive scales.  A space of two axes ("m k") stays, and with no space left to move the result is b.  In float64 on
    the CPU; `theta` keeps its dtype and device, and a BatchNorm's running statistics are carried but do not count.

    Raises ValueError for parameters of another architecture or with member axes, for NaN or inf, no generator, an
    unknown method, `inputs` that do not fit the method, activations that the forward pass does not take from `sigma`,
    and when g changes the function of a random or of this network: then the axis table is wrong.

    Source: Ainsworth et al., arXiv 2209.04836 (matching activations and weights); signs, scales and restarts ours.
    """
    a, b = _checked(arch, theta_a, "theta_a"), _checked(arch, theta_b, "theta_b")
    check_generator(generator, "align")
    check_known(method, METHODS, "method of align")
    check_positive(restarts, "align: restarts")
    check_positive(max_sweeps, "align: max_sweeps")
    if (method == "activations") != (inputs is not None):
        got = f"method {method!r} {'without' if inputs is None else 'with'} them"
        raise ValueError(f"align: inputs belong to the method 'activations' and to no other, got {got}")
    families = movable(arch, scales=scales)
    _check_function(arch, b, {s: _random(arch.size(s), f, generator) for s, f in families.items()}, generator)
    if inputs is not None:
        arch.check(a, inputs.double().cpu())
        found = _match_outputs(arch, a, b, families, inputs.double().cpu(), generator)
    else:
        learned, found = {k: v for k, v in arch.axes.items() if k not in arch.state}, None
        pair = Pair(learned, a, b, families)
        plain = {s: (arch.size(s), set(f) - {groups.rescaling}) for s, f in families.items()}
        for i in range(restarts):
            start = {s: _random(n, f, generator) if i else identity(n) for s, (n, f) in plain.items()}
            run = ascend(pair, start, generator, max_sweeps, first=not i)
            found = run if found is None or run[1][-1] > found[1][-1] else found
        assert found is not None
    moves, objective = found
    _check_function(arch, b, moves, generator)
    return Alignment(carry(arch, theta_b, moves), moves, tuple(objective), len(objective) - 1)


def movable(arch: Arch, *, scales: bool = True) -> dict[str, tuple[Family, ...]]:
    """The hidden spaces whose units may be permuted, each with its permutations, signs and scales.  Source: ours."""
    found = {s: monomial(kind) for s, kind in arch.activations.items() if len(s.split()) == 1}
    return {s: f if scales else (groups.permutation,) for s, f in found.items() if groups.permutation in f}


def _checked(arch: Arch, theta: Params, what: str) -> Theta:
    if check_params(theta, arch.shapes, f"align: {what} of {arch.name}", members=False) is None:
        raise TypeError(f"align: {what} should hold torch tensors, got symbolic parameters")
    return {k: v.detach().double().cpu() for k, v in theta.items()}


def _random(n: int, families: Collection[Family], generator: torch.Generator) -> Move:
    """A random permutation with random signs, and scales from 1 / e to e, where they are allowed."""
    draw = partial(torch.rand, n, generator=generator, dtype=torch.float64, device=generator.device)
    order, flips, logs = (draw().cpu() for _ in range(3))
    scale = (2 * logs - 1).exp() if groups.rescaling in families else torch.ones_like(logs)
    return Move(order.argsort(), scale * (flips.round() * 2 - 1) if groups.sign_flip in families else scale)


def _match_outputs(
    arch: Arch,
    a: Theta,
    b: Theta,
    families: Mapping[str, tuple[Family, ...]],
    x: Tensor,
    generator: torch.Generator,
) -> tuple[dict[str, Move], list[float]]:
    """One assignment in each space between the outputs of its units, least squares."""
    left, right = _outputs(arch, a, x), _outputs(arch, b, x)
    if missing := [s for s in families if s not in right]:
        raise ValueError(
            f"align: {arch.name} does not take the activations of {', '.join(missing)} from `sigma`, so that their "
            "outputs are not seen; use method 'weights'"
        )
    shuffled = {s: _random(arch.size(s), f, generator) for s, f in families.items()}
    other = _outputs(arch, carry(arch, b, shuffled), x)
    moves, before, after = {}, [0.0], [0.0]
    for space, kinds in families.items():
        n, move = arch.size(space), shuffled[space]
        axis = _unit_axis(right[space], other[space], move, f"align: the outputs of {space} of {arch.name}")
        ha, hb = rows(left[space], axis), rows(right[space], axis)
        zero, norms = torch.zeros(n, dtype=torch.float64), hb.square().sum(dim=1)
        moves[space] = best_move(ha @ hb.T, torch.zeros(n, n, dtype=torch.float64), norms, zero, kinds)
        for total, g in ((before, identity(n)), (after, moves[space])):
            gb = g.act(hb, 0)
            total.append(float((ha * gb).sum() - gb.square().sum() / 2 + norms.sum() / 2))
    return moves, [math.fsum(before), math.fsum(after)]


def _outputs(arch: Arch, theta: Theta, x: Tensor) -> dict[str, Tensor]:
    """What leaves the activation of each hidden space."""
    seen: dict[str, Tensor] = {}

    def watched(space: str, fn: Callable) -> Callable:
        def call(z: Tensor) -> Tensor:
            seen[space] = fn(z)
            return seen[space]

        return call

    arch.forward(theta, x, {s: watched(s, fn) for s, fn in arch.functions().items()})
    return seen


def _unit_axis(outputs: Tensor, moved_outputs: Tensor, move: Move, where: str) -> int:
    """The axis of the units: the one along which the outputs move when the units do."""
    for axis, size in enumerate(outputs.shape):
        if size == len(move.order) and relative_error(move.act(outputs, axis), moved_outputs) < AGREES:
            return axis
    raise ValueError(f"{where}, of shape {tuple(outputs.shape)}, do not move with its units")


def _check_function(arch: Arch, theta: Theta, moves: Mapping[str, Move], generator: torch.Generator) -> None:
    """Raise ValueError, naming the worst parameter, unless the moves leave the function as it is."""
    x = random_inputs(arch, generator, torch.float64, 1.0).cpu()
    with torch.no_grad():
        wanted = arch(theta, x)

        def error(axes: Axes) -> float:
            found = float(relative_error(arch({k: moved(axes[k], v, moves) for k, v in theta.items()}, x), wanted))
            return found if math.isfinite(found) else math.inf

        found = error(arch.axes)
        if found < AGREES:
            return
        sizes, trials = arch.sizes(), {}
        for k, labels in arch.axes.items():
            for i, n in enumerate(arch.shapes[k]):
                for label in (None, *(s + dual for s in moves if sizes[s] == n for dual in ("", "*"))):
                    if label != labels[i]:
                        changed = (*labels[:i], label, *labels[i + 1 :])
                        trials[k, i, label] = error({**arch.axes, k: changed})
    (k, i, label), least = min(trials.items(), key=lambda item: item[1])
    raise ValueError(
        f"align: the axis table of {arch.name} does not fit its forward pass: moving {', '.join(moves)} changed the "
        f"output by {found:.1e} of its size; worst is {k}, with {least:.1e} if its axis {i} were {label!r}, not "
        f"{arch.axes[k][i]!r}"
    )
