"""Seeded synthetic tasks: a teacher's function, and clusters."""

from collections.abc import Callable

import torch
from torch import Tensor

from symlib.data.splits import Split
from symlib.guards import check_generator, check_positive


def teacher_student(
    teacher: Callable[[Tensor], Tensor],
    d: int,
    generator: torch.Generator,
    *,
    train: int = 256,
    test: int = 256,
    noise: float = 0.0,
) -> Split:
    """Regression on a teacher: x ~ N(0, I_d) as columns (d, n), y = teacher(x) + noise N(0, 1), float64.

    Raises ValueError for sizes that are not positive, for no generator, and for teachers that return NaN, inf or
    another number of columns than they were given.  Source: ours.
    """
    check_generator(generator, "teacher_student")
    for name, n in (("d", d), ("train", train), ("test", test)):
        check_positive(n, f"teacher_student: {name}")
    x = torch.randn(d, train + test, generator=generator, dtype=torch.float64)
    clean = teacher(x).detach()
    if clean.shape[-1:] != x.shape[-1:]:
        raise ValueError(f"teacher_student: inputs {tuple(x.shape)}, but the teacher returned {tuple(clean.shape)}")
    y = clean + noise * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    return Split(x[:, :train], y[..., :train], x[:, train:], y[..., train:])


def gaussian_mixture(
    classes: int,
    d: int,
    generator: torch.Generator,
    *,
    separation: float = 3.0,
    train: int = 500,
    test: int = 500,
) -> Split:
    """Classification of Gaussian clusters: class means of length `separation` in random directions, unit covariance.

    x (d, n) float64, y (n,) in 0..classes-1, classes drawn uniformly.  Raises ValueError for sizes that are not
    positive and for no generator.  Source: ours.
    """
    check_generator(generator, "gaussian_mixture")
    for name, n in (("classes", classes), ("d", d), ("train", train), ("test", test)):
        check_positive(n, f"gaussian_mixture: {name}")
    means = torch.randn(d, classes, generator=generator, dtype=torch.float64)
    means = separation * means / means.norm(dim=0)
    y = torch.randint(classes, (train + test,), generator=generator)
    x = means[:, y] + torch.randn(d, train + test, generator=generator, dtype=torch.float64)
    return Split(x[:, :train], y[:train], x[:, train:], y[train:])
