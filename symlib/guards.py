"""Refusals shared by every module: what was wanted, what came, and where."""

import math
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np
import torch


def holds(condition: torch.Tensor) -> bool:
    """Whether a condition is true everywhere; not decided, and so True, inside torch.func.vmap.  Source: ours."""
    try:
        return bool(condition.all())
    except RuntimeError:  # inside vmap a value cannot steer control flow: checked by the caller outside
        return True


def check_finite(value: torch.Tensor, where: str) -> None:
    """Raise ValueError, with the count and the first place, when a tensor holds NaN or inf.  Source: ours."""
    finite = torch.isfinite(value)
    if holds(finite):
        return
    places = (~finite).nonzero()
    raise ValueError(f"{where} holds {len(places)} NaN or inf, the first at index {tuple(places[0].tolist())}")


def check_known(value: object, known: Iterable[str], what: str) -> None:
    """Raise ValueError, naming the known ones, unless value is one of them.  Source: ours."""
    names = list(known)
    if value not in names:
        raise ValueError(f"unknown {what} {value!r}; known are {', '.join(names)}")


def check_labels(logits: torch.Tensor, labels: torch.Tensor, where: str) -> None:
    """Raise ValueError unless logits (..., classes, n) have labels (n,) or (..., n), whole numbers in 0..classes-1.

    On a GPU the range is left to the device's own check, which does not make the host wait.  Source: ours.
    """
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    fits = logits.ndim >= 2 and labels.shape in (logits.shape[-1:], logits.shape[:-2] + logits.shape[-1:])
    if not whole or not fits:
        wanted = f"{where}: logits (..., classes, n) and n whole numbers as labels"
        raise ValueError(f"{wanted}, got {tuple(logits.shape)} and {labels.dtype} {tuple(labels.shape)}")
    if labels.is_cuda or torch.compiler.is_compiling():
        return
    if not holds((labels >= 0) & (labels < logits.shape[-2])):
        low, high = int(labels.min()), int(labels.max())
        raise ValueError(f"{where}: labels should be in 0..{logits.shape[-2] - 1}, got {low}..{high}")


def check_positive(value: object, what: str) -> None:
    """Raise ValueError unless value is a whole number of at least 1, of Python or numpy.  Source: ours."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{what} should be a whole number of at least 1, got {value!r}")


def check_generator(value: object, where: str) -> None:
    """Raise ValueError unless value is a torch.Generator: None would draw from the global state.  Source: ours."""
    if not isinstance(value, torch.Generator):
        raise ValueError(f"{where}: randomness should come from a torch.Generator, got {value!r}")


def real(value: object, what: str) -> float:
    """A real number, or an array of one, as a float, which may be NaN or inf.

    Raises ValueError for anything else, such as text and True.  Source: ours.
    """
    one = value.item() if isinstance(value, torch.Tensor | np.ndarray) and math.prod(value.shape) == 1 else value
    if isinstance(one, bool) or not isinstance(one, Real):
        raise ValueError(f"{what} should be one real number, got {value!r}")
    return float(one)


def sizes(widths: Iterable[int], what: str, least: int, most: float = math.inf) -> tuple[int, ...]:
    """Sizes as Python integers; anything that is a whole number by itself will do, such as those of numpy.

    Raises ValueError unless there are `least` to `most` of them, all positive.  Source: ours.
    """
    values = tuple(widths) if isinstance(widths, Iterable) and not isinstance(widths, str) else ()
    bad = [w for w in values if isinstance(w, bool) or not isinstance(w, Integral) or w < 1]
    if not least <= len(values) <= most or bad:
        count = f"{'at least ' if most > least else ''}{least}"
        raise ValueError(f"{what} should be {count} positive whole numbers, got {widths!r}")
    return tuple(map(int, values))
