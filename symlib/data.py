"""Seeded synthetic tasks, and real data that ships inside packages.  Samples are columns; randomness is a generator."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from symlib.guards import check_finite, check_generator, check_positive

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Split:
    """A task: inputs (d, n), targets (k, n) or labels (n,), for training and for testing.

    Raises ValueError for NaN or inf, for inputs and targets of different lengths, and for no samples.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x, y = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            check_finite(x, f"data: x_{part}")
            check_finite(y, f"data: y_{part}")
            if x.ndim != 2 or x.shape[-1:] != y.shape[-1:]:
                raise ValueError(f"data: {part} has inputs {tuple(x.shape)} and targets {tuple(y.shape)}")
            if x.shape[-1] == 0:
                raise ValueError(f"data: {part} should have at least one sample, got inputs {tuple(x.shape)}")

    def to(self, device: torch.device, dtype: torch.dtype) -> "Split":
        """The same task on a device, inputs and real targets in the given dtype."""

        def move(v: Tensor) -> Tensor:
            return v.to(device, dtype if v.is_floating_point() else v.dtype)

        return Split(*(move(v) for v in (self.x_train, self.y_train, self.x_test, self.y_test)))


def _split(x: Tensor, y: Tensor, test: int, generator: torch.Generator) -> Split:
    n = x.shape[-1]
    check_positive(test, "data: test")
    if test >= n:
        raise ValueError(f"data: the test set should hold between 1 and {n - 1} of {n} samples, got {test}")
    order = torch.randperm(n, generator=generator)
    train, held = order[test:], order[:test]
    return Split(x[..., train], y[..., train], x[..., held], y[..., held])


def digits(generator: torch.Generator, *, test: int = 397) -> Split:
    """Scikit-learn's 1,797 handwritten digits: x (64, n) float64 in [0, 1] (grey levels over 16), y (n,) in 0..9.

    A seeded random split, by default 1,400 for training and 397 for testing.  Raises ValueError for a bad `test`
    or generator.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (test part), as in scikit-learn.
    """
    from sklearn.datasets import load_digits

    check_generator(generator, "digits")
    raw = load_digits()
    x = torch.from_numpy(raw.data).double().T / 16  # type: ignore[attr-defined]
    return _split(x, torch.from_numpy(raw.target).long(), test, generator)  # type: ignore[attr-defined]


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


class Stream:
    """An endless iterator of batches, epoch after epoch, that can be put back to where it was.

    `epoch(generator)` draws what it needs from the generator and yields the batches of one epoch; `state()` is what
    `restore` takes: the generator as it was when the epoch began, and the number of batches taken since.  For `restore`
    to be exact nothing else may draw from the generator in the middle of an epoch.
    """

    def __init__(self, epoch: Callable[[torch.Generator], Iterator[Batch]], generator: torch.Generator) -> None:
        check_generator(generator, "stream")
        self._epoch, self._generator = epoch, generator
        self._wait()

    def _wait(self) -> None:
        """Before an epoch, which begins when its first batch is asked for."""
        self._left, self._taken = iter(()), 0

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Batch:
        batch = next(self._left, None)
        while batch is None:
            self._before, self._taken = self._generator.get_state(), 0
            self._left = self._epoch(self._generator)
            batch = next(self._left, None)
        self._taken += 1
        return batch

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on with the next batch."""
        return {"generator": self._before if self._taken else self._generator.get_state(), "taken": self._taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back, or forward, to where a stream with the same epochs stood."""
        self._generator.set_state(state["generator"])
        self._wait()
        for _ in range(state["taken"]):
            next(self)


def minibatches(x: Tensor, y: Tensor, size: int, generator: torch.Generator, *, members: int | None = None) -> Stream:
    """Endless shuffled minibatches (d, size), (..., size): every epoch in a new order, without a last partial batch.

    With `members`, each has an order of its own, and the batches are (members, d, size), (members, ..., size).  Raises
    ValueError when the size is not between 1 and the number of samples, for inputs and targets of different lengths or
    with NaN or inf, and for no generator.  Source: ours.
    """
    n = x.shape[-1]
    check_generator(generator, "minibatches")
    check_positive(size, "minibatches: size")
    if members is not None:
        check_positive(members, "minibatches: members")
    if size > n:
        raise ValueError(f"minibatches: the size should be between 1 and {n}, got {size}")
    if y.shape[-1:] != (n,):
        raise ValueError(f"minibatches: inputs {tuple(x.shape)} and targets {tuple(y.shape)} differ in length")
    check_finite(x, "minibatches: x")
    check_finite(y, "minibatches: y")
    parts = [v.movedim(-1, 0).contiguous() for v in (x, y)]  # samples first: a batch is then a copy of whole rows

    def epoch(generator: torch.Generator) -> Iterator[Batch]:
        orders = [torch.randperm(n, generator=generator, device=generator.device) for _ in range(members or 1)]
        order = (torch.stack(orders) if members is not None else orders[0]).to(x.device)
        for i in range(0, n - size + 1, size):
            rows = order[..., i : i + size]
            taken = (v.index_select(0, rows.flatten()).unflatten(0, rows.shape) for v in parts)
            yield tuple(v.movedim(rows.ndim - 1, -1) for v in taken)

    return Stream(epoch, generator)


def hypercube(
    sets: Sequence[Sequence[int]],
    d: int,
    size: int,
    generator: torch.Generator,
    *,
    members: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Stream:
    """Fresh batches on the hypercube: x uniform in {-1, 1}^d, y = sum over sets S of prod_{i in S} x_i.

    Batches are x (d, size), y (1, size), or (members, d, size), (members, 1, size), drawn on the generator's device.
    Coordinates count from 0.  Raises ValueError for sizes that are not positive, for sets that are empty, repeat a
    coordinate or leave 0..d-1, and for no generator.

    Source: Abbe, Boix-Adsera, Misiakiewicz, arXiv 2302.11055 (sums of parities).
    """
    check_generator(generator, "hypercube")
    for name, n in (("d", d), ("size", size), *([("members", members)] if members is not None else [])):
        check_positive(n, f"hypercube: {name}")
    if not sets or any(not s or len(set(s)) < len(s) or not all(0 <= i < d for i in s) for s in sets):
        raise ValueError(f"hypercube: the sets should hold coordinates in 0..{d - 1}, each once, got {sets!r}")
    shape = (d, size) if members is None else (members, d, size)
    rows = [torch.tensor(list(s), device=generator.device) for s in sets]  # once: a list would be copied for each batch

    def draw(generator: torch.Generator) -> Iterator[Batch]:
        bits = torch.randint(0, 2, shape, generator=generator, device=generator.device, dtype=torch.int8)
        x = bits.to(dtype).mul_(2).sub_(1)
        yield x, sum(x.index_select(-2, r).prod(dim=-2, keepdim=True) for r in rows)  # type: ignore[misc]

    return Stream(draw, generator)
