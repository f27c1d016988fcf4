"""What a count is: a number, how it is known, where it holds; and the limits a count keeps to."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch

from symlib.architectures import Arch
from symlib.symmetry import Params

PATIENCE = 3  # orders without growth after which a rank has stagnated
NUMBERS = 2**25  # covectors times state: beyond it a count is refused unless forced
SECONDS = 2e-10  # of one core, for each unit of covectors^2 times state: measured, see tests/benchmarks
COPIES = 20  # arrays of covectors times state that are held at once
EVERYWHERE = "on an open dense set"


class Disagreement(ArithmeticError):
    """Two generic points gave different ranks, so that the count cannot be trusted.  `.ranks` holds both."""

    def __init__(self, what: str, ranks: tuple[int, int]) -> None:
        super().__init__(f"{what}: two generic points disagree, their ranks are {ranks[0]} and {ranks[1]}")
        self.ranks = ranks


@dataclass(frozen=True)
class LawCount:
    """The number of independent conservation laws of a flow, how it is known, and where it holds.

    laws + `lie_dimension` = `dimension` of the state (the parameters; for momentum also velocities and time).

    `status` is "certified" (the rank of brackets, a lower bound of the Lie algebra, and the rank of known charges, a
    lower bound of the laws, add up), "measured" (the same with ranks in float64, which rounding can spoil), "closed"
    (a finite-dimensional algebra closed under brackets, at two points),
    "stagnated" (no growth over further orders, at two points), "formula" (a published closed form) or "at least"
    (stopped by a limit: `laws` is None and `lie_dimension` a lower bound).  `ranks` are those of the orders or depths;
    `gap` is the last singular value kept over the first one cut, infinite for exact methods; `point` holds the
    parameters at which the activation patterns were read, `region` says where the count holds, and for a
    count near a point `inside(theta)` whether theta is surely in its region: whether the same inputs meet the same
    activation patterns there.
    """

    what: str
    laws: int | None
    parameters: int
    dimension: int
    lie_dimension: int
    charges: int
    status: str
    method: str
    region: str = EVERYWHERE
    ranks: tuple[int, ...] = ()
    gap: float = math.inf
    point: Params = field(default_factory=dict, repr=False, compare=False)
    inside: Callable[[Params], bool] | None = field(default=None, repr=False, compare=False)

    @property
    def depth(self) -> int:
        """The orders (or bracket depths) it took to reach the rank; 0 for a formula."""
        return self.ranks.index(self.ranks[-1]) + 1 if self.ranks else 0

    @property
    def surplus(self) -> int | None:
        """The laws that no known symmetry explains."""
        return None if self.laws is None else self.laws - self.charges

    def __repr__(self) -> str:
        laws = f"{self.charges} to {self.dimension - self.lie_dimension}" if self.laws is None else str(self.laws)
        single, plural = self.lie_dimension + self.charges != self.dimension, lambda many: "s" * many
        known = f"{self.charges} charge{plural(self.charges != 1)}"
        how = {
            "certified": f"{known} + {self.lie_dimension} brackets = {self.dimension}",
            "measured": f"{known} + {self.lie_dimension} brackets = {self.dimension}",
            "closed": f"brackets close at {self.lie_dimension} of {self.dimension}, charges {self.charges}",
            "stagnated": f"no growth beyond {self.lie_dimension} of {self.dimension}, charges {self.charges}",
            "at least": f"stopped with brackets of rank {self.lie_dimension} of {self.dimension}",
            "formula": f"of {self.dimension}",
        }[self.status]
        how = f"a single field in {self.dimension} dimensions" if self.status == "certified" and single else how
        steps = f", ranks {', '.join(map(str, self.ranks[: self.depth]))}" if self.depth > 1 else ""
        gap = "" if math.isinf(self.gap) else f", spectral gap {self.gap:.0e}"
        count = f"{laws} law{plural(laws != '1')}"
        return f"{self.what}: {count} ({self.status}: {how})\n  {self.method}{steps}{gap}; {self.region}"


@dataclass(frozen=True)
class Task:
    """What is to be counted, with which randomness and limits."""

    arch: Arch
    flow: str
    damping: Fraction
    generator: torch.Generator
    theta: Params | None
    orders: int
    force: bool

    def __post_init__(self) -> None:
        if self.arch.state:
            named = ", ".join(sorted(self.arch.state))
            raise ValueError(f"{self.what}: {named} are measured and not learned, a count has no place for them")

    @property
    def dimension(self) -> int:
        """The dimension of the state."""
        return self.arch.parameters if self.flow != "momentum" else 2 * self.arch.parameters + 1

    @property
    def what(self) -> str:
        return f"{self.arch.name}, {self.flow} flow"

    def refusal(self, method: str, why: str) -> ValueError:
        """The error that says why a method does not cover the architecture."""
        return ValueError(f"{self.what}: the method {method!r} does not cover it: {why}")

    def check_size(self, covectors: int) -> None:
        """Raise ValueError, with an estimate, for a count too large to be made unforced."""
        if covectors * self.dimension > NUMBERS and not self.force:
            hours = SECONDS * covectors**2 * self.dimension / 3600
            memory = 8 * COPIES * covectors * self.dimension / 2**30
            raise ValueError(
                f"{self.what}: {covectors} covectors in {self.dimension} dimensions would take about {hours:.1g} hours "
                f"and {memory:.0f} GiB; pass force=True to do it all the same"
            )

    def result(
        self, method: str, laws: int | None, lie_dimension: int, charges: int, status: str, **more: Any
    ) -> LawCount:
        """The count of this task."""
        return LawCount(
            self.what, laws, self.arch.parameters, self.dimension, lie_dimension, charges, status, method, **more
        )

    def weighed(
        self,
        method: str,
        runs: Iterable[tuple[list[int], bool]],
        charges: int,
        *,
        sure: str = "certified",
        settled: str = "stagnated",
        single: bool = False,
        **more: Any,
    ) -> LawCount:
        """The count from the ranks found at one point after the other, each with whether a limit stopped it.

        The second point is asked for only where the first does not certify.  `sure` is the status where rank and
        charges add up, `settled` that of two points that agree; `single` says that the flow has one field, whose Lie
        algebra has dimension 1.

        Raises Disagreement when the points disagree, ValueError when rank and charges exceed the dimension.
        """
        seen: list[int] = []
        for ranks, stopped in runs:
            rank, total = ranks[-1], self.dimension
            if rank + charges > total:
                raise ValueError(
                    f"{self.what}: rank {rank} and {charges} charges exceed {total}: a charge is not conserved"
                )
            more["ranks"] = tuple(ranks)
            if rank + charges == total or (single and rank == 1):
                return self.result(method, total - rank, rank, charges, sure, **more)
            if stopped:
                return self.result(method, None, rank, charges, "at least", **more)
            seen.append(rank)
            if len(seen) == 2:
                if seen[0] != seen[1]:
                    raise Disagreement(self.what, (seen[0], seen[1]))
                break
        return self.result(method, self.dimension - seen[0], seen[0], charges, settled, **more)


def grown(steps: Iterable[int], most: int, orders: int) -> tuple[list[int], bool]:
    """The ranks, order by order, until `most` or until PATIENCE orders add nothing; and whether `orders` ended it.

    Source: ours.
    """
    ranks: list[int] = []
    for rank in steps:
        ranks.append(rank)
        if rank == most or (len(ranks) > PATIENCE and ranks[-1 - PATIENCE] == rank):
            return ranks, False
        if len(ranks) == orders:
            return ranks, True
    return ranks, False
