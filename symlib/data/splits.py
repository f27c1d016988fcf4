"""A task with its training and its test samples, and parts of one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from symlib.guards import check_finite, check_positive


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


def random_split(x: Tensor, y: Tensor, test: int, generator: torch.Generator) -> Split:
    """A random split of samples (d, n) and labels (n,), `test` of them for testing.

    Raises ValueError unless `test` is between 1 and n - 1.  Source: ours.
    """
    n = x.shape[-1]
    check_positive(test, "data: test")
    if test >= n:
        raise ValueError(f"data: the test set should hold between 1 and {n - 1} of {n} samples, got {test}")
    order = torch.randperm(n, generator=generator)
    train, held = order[test:], order[:test]
    return Split(x[..., train], y[..., train], x[..., held], y[..., held])


def classes(split: Split, keep: Sequence[int]) -> Split:
    """The samples of some classes, relabelled 0, 1, ... in the order of `keep`; their order stays.

    Raises ValueError for targets that are no labels (n,), for no class or a repeated one, and for a class without
    samples in either part.  Source: ours.
    """
    kept = torch.tensor(list(keep))
    if split.y_train.ndim != 1 or split.y_train.is_floating_point():
        raise ValueError(
            f"classes: labels should be whole numbers (n,), got {split.y_train.dtype} {split.y_train.shape}"
        )
    if not len(kept) or len(kept.unique()) < len(kept):
        raise ValueError(f"classes: keep should name classes, each once, got {keep!r}")

    def part(name: str) -> tuple[Tensor, Tensor]:
        x, y = getattr(split, f"x_{name}"), getattr(split, f"y_{name}")
        places = y == kept.to(y.device)[:, None]
        if not places.any(dim=1).all():
            raise ValueError(f"classes: {keep!r} should all be in the {name} part, which has {y.unique().tolist()}")
        chosen = places.any(dim=0)
        return x[:, chosen], places.int().argmax(dim=0)[chosen]

    return Split(*part("train"), *part("test"))
