"""The number of conservation laws of a flow: the choice among the methods that count them.

A function h is conserved for every loss L = E(f) exactly when grad h is orthogonal to all the fields that the flow can
follow, hence to all their brackets.  By Frobenius' theorem, near a generic point there are as many independent such h
as the state has dimensions beyond those of the Lie algebra of the fields.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import torch

from symlib.architectures import Arch
from symlib.counting import fields
from symlib.counting.brackets import nested_brackets, sign_vectors
from symlib.counting.chains import chain, closed_form, matrix_closure, monomial_lift
from symlib.counting.count import LawCount, Task
from symlib.counting.series import power_series
from symlib.guards import check_generator, check_known, check_positive, real
from symlib.symmetry import Params, check_params

FLOWS = ("gradient", "momentum", "sign")
ORDERS = 200  # orders or depths after which a count says "at least"

METHODS: Mapping[str, Callable[[Task], LawCount]] = {
    "closed form": closed_form,
    "monomial lift": monomial_lift,
    "matrix closure": matrix_closure,
    "power series": power_series,
    "nested brackets": nested_brackets,
    "sign vectors": sign_vectors,
}
"""The ladder: each method is checked against the next on small networks."""


def conservation_laws(
    arch: Arch,
    *,
    flow: str = "gradient",
    generator: torch.Generator,
    method: str | None = None,
    theta: Params | None = None,
    damping: float = 1,
    orders: int = ORDERS,
    force: bool = False,
) -> LawCount:
    """The number of independent functions of the state that a flow conserves, whatever the loss and the data.

    `flow` is "gradient", theta' = -grad L (times theta for parameters kept positive: the mirror flow of the entropy);
    "momentum", theta'' = -damping theta' - grad L, with laws in (t, theta, theta'); or "sign", theta' = -sign(grad L).
    `method` is one of METHODS, by default an exact one where there is one.  `theta` chooses the region of activation
    patterns of a ReLU network; without it a chain counts where its outputs separate all paths, any other network near a
    random point.  `orders` is the most orders or depths that are tried.

    Raises ValueError when the method does not cover the architecture, naming the layer, and, unless forced, when the
    count would take gigabytes or hours; Disagreement when two generic points give two ranks.

    Source: Marcotte, Gribonval, Peyre, arXiv 2307.00144 (gradient flow), arXiv 2405.12888 (momentum, mirror flows).
    """
    check_generator(generator, "conservation_laws")
    check_known(flow, FLOWS, "flow")
    check_positive(orders, "conservation_laws: orders")
    if theta is not None and check_params(theta, arch.shapes, arch.name, members=False) is None:
        raise TypeError(f"{arch.name}: wanted torch tensors as theta, got symbolic parameters")
    if arch.positive and flow != "gradient":
        raise ValueError(
            f"{arch.name}: {', '.join(sorted(arch.positive))} are kept positive; only the gradient flow is covered"
        )
    if not math.isfinite(rate := real(damping, "damping")):
        raise ValueError(f"damping should be finite, got {rate}")
    at = None if theta is None else {k: v.detach().double() for k, v in theta.items()}
    task = Task(arch, flow, Fraction(rate), generator, at, orders, force)
    chosen = _default(task) if method is None else method
    check_known(chosen, METHODS, "method")
    return METHODS[chosen](task)


def _default(task: Task) -> str:
    if task.flow == "sign":
        return "sign vectors"
    found = chain(task.arch)
    if found and found.kind in fields.KINKED and found.is_separable and task.flow == "gradient" and task.theta is None:
        return "monomial lift"
    if found and found.is_pair and task.flow == "momentum":
        return "matrix closure"
    return "nested brackets" if fields.untraced(task.arch) else "power series"
