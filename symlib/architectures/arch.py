"""Architectures as axis tables: the forward pass, the spaces it runs through, and the symmetries derived from them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from symlib import groups
from symlib.activations import Family, named_activation
from symlib.guards import check_finite, check_generator, check_positive, real
from symlib.ops import M
from symlib.symmetry import Axes, Params, Shapes, Symmetry, check_params, from_axes


@dataclass(frozen=True)
class Arch:
    """An architecture: shapes, an axis table, a forward pass, and the activation of each hidden space.

    `forward(theta, x, sigma)` takes the activation functions as a mapping from hidden space to function, so that a
    proof can put uninterpreted ones in their place.  `inputs` is the shape of one input, None where its length is free;
    `input_axes` labels it.  `tied` holds the symmetries that are no axis action; `positive` names the parameters that
    are kept positive, `state` the entries that are measured and not learned (the running statistics of a BatchNorm):
    symmetries carry them like the rest, and they do not count as parameters.
    """

    name: str
    shapes: Shapes
    axes: Axes
    forward: Callable[[Params, M, Mapping[str, Callable[[M], M]]], M]
    activations: Mapping[str, str]
    inputs: tuple[int | None, ...]
    input_axes: tuple[str | None, ...] = ("x", None)
    tied: Sequence[Symmetry] = field(default=())
    positive: frozenset[str] = frozenset()
    state: frozenset[str] = frozenset()

    def __call__(self, theta: Params, x: M) -> M:
        """The output f_theta(x) for samples as columns.

        Leading member axes of theta broadcast where every parameter is a matrix; wrap in `torch.func.vmap` otherwise.
        Raises ValueError for parameters or inputs of other names, shapes or dtypes.
        """
        if isinstance(x, torch.Tensor):
            self.check(theta, x, finite=False)
        return self.forward(theta, x, self.functions())

    def functions(self) -> dict[str, Callable[[M], M]]:
        """The activation function of each hidden space that has one."""
        found = {s: named_activation(a).fn for s, a in self.activations.items()}
        return {s: fn for s, fn in found.items() if fn is not None}

    @property
    def parameters(self) -> int:
        """The number of parameters: of the entries that are learned."""
        return sum(math.prod(s) for k, s in self.shapes.items() if k not in self.state)

    def init(
        self,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        *,
        members: int | None = None,
        scale: float = 1.0,
    ) -> dict[str, torch.Tensor]:
        """Random parameters: weights N(0, scale^2 / fan_in), biases (names that begin with b) N(0, (scale / 10)^2).

        Parameters that are kept positive, and state, are drawn so and made positive.  The scales of norms are drawn
        like weights: a point for checks, training should start them at 1.

        With `members`, one leading axis of independent networks.  Drawn in float64 on the generator's device.
        Raises ValueError for no generator, members that are no positive whole number, a dtype that is not floating, and
        a scale that is not finite.
        """
        check_generator(generator, self.name)
        if members is not None:
            check_positive(members, f"{self.name}: members")
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(f"{self.name}: the dtype should be a floating one, got {dtype!r}")
        if not math.isfinite(real(scale, f"{self.name}: scale")):
            raise ValueError(f"{self.name}: the scale should be finite, got {scale}")
        lead = () if members is None else (int(members),)
        draw = partial(torch.randn, generator=generator, dtype=torch.float64, device=generator.device)
        std = {k: 0.1 if k.startswith("b") else math.prod(s[1:]) ** -0.5 for k, s in self.shapes.items()}
        drawn = {k: (scale * std[k] * draw(*lead, *s)).to(dtype) for k, s in self.shapes.items()}
        return {k: v.abs() if k in self.positive | self.state else v for k, v in drawn.items()}

    def sizes(self) -> dict[str, int]:
        """The size of every labelled space."""
        return {
            label.rstrip("*"): n
            for k, axes in self.axes.items()
            for label, n in zip(axes, self.shapes[k], strict=True)
            if label
        }

    def size(self, space: str) -> int:
        """The size of a space, which may name two neighbouring axes.  Raises ValueError for an unknown space."""
        sizes = self.sizes()
        unknown = [s for s in space.split() if s not in sizes]
        if unknown or not space.split():
            raise ValueError(f"{self.name}: no space {space!r}; spaces are {', '.join(sizes)}")
        return math.prod(sizes[s] for s in space.split())

    def claim(self, space: str, family: Family) -> Symmetry:
        """The claim that a family of groups acts on a space as a symmetry: true or false, for a proof to decide.

        Raises ValueError for an unknown space.
        """
        sizes = [self.size(s) for s in space.split()] or [self.size(space)]
        group = family(sizes[-1])
        if len(sizes) > 1:
            group = groups.blocks(group, math.prod(sizes[:-1]))
        source = "Zhao, Walters, Yu, arXiv 2506.13018, section 2"
        return replace(from_axes(self.axes, space, group, shapes=self.shapes, source=source), state=self.state)

    def symmetries(self) -> dict[str, Symmetry]:
        """The known symmetries, derived from axes and activations, then those that are no axis action."""
        derived = [self.claim(s, f) for s, a in self.activations.items() for f in named_activation(a).families]
        moving = [s for s in derived if s.group.dimension or s.group.discrete]  # not the trivial group, as S_1 is
        return {s.name: s for s in (*moving, *(replace(s, state=self.state) for s in self.tied))}

    def check(self, theta: Params, x: torch.Tensor, *, finite: bool = True) -> None:
        """Raise ValueError unless theta are parameters of this architecture and x an input of it, finite ones."""
        dtype = check_params(theta, self.shapes, self.name, finite=finite)
        wanted = tuple("n" if n is None else n for n in self.inputs)
        got = tuple(x.shape)[-len(wanted) :]
        if len(got) != len(wanted) or any(w not in ("n", g) for w, g in zip(wanted, got, strict=True)):
            raise ValueError(f"{self.name}: the input should have shape {wanted}, got {tuple(x.shape)}")
        if x.dtype != dtype:
            raise ValueError(f"{self.name}: the input has dtype {x.dtype}, the parameters {dtype}")
        if finite:
            check_finite(x, f"{self.name}: the input")

    def table(self) -> str:
        """The axis table as text: one line per parameter, with its shape."""
        width = max(map(len, self.shapes))
        rows = [
            f"{k:<{width}}  {' '.join(a or '.' for a in self.axes[k]):<12} {'x'.join(map(str, s))}"
            for k, s in self.shapes.items()
        ]
        hidden = ", ".join(f"{s}: {a}" for s, a in self.activations.items())
        return "\n".join([f"{self.name} ({self.parameters} parameters; {hidden})", *rows])

    def __repr__(self) -> str:
        return self.table()
