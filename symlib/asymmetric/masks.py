"""Where entries of weights are held: at random places, everywhere, by hand, or as few as tell all rows apart."""

import itertools
import math
from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from symlib.architectures import Arch
from symlib.asymmetric.pinning import Pinning
from symlib.guards import check_generator, check_known, check_positive, real, sizes

Held = int | str | Tensor  # a number in each row, "all", or a mask that is 0 where entries are held


def w_asymmetric(
    arch: Arch,
    fixed: Mapping[str, Held],
    *,
    kappa: float | Mapping[str, float],
    generator: torch.Generator,
    filters: Iterable[str] = (),
) -> Pinning:
    """A W-asymmetric network: in each row of some weights, entries at random places are held at random values.

    `fixed` maps the name of a weight to the number n of entries held in each of its rows (of all axes but the first),
    so of W (h, d) there remain h (d - n) to learn; the places are uniform, no two rows alike.  For the kernels that
    `filters` names, n counts whole filters (out, in, :, :).  In place of n, "all" holds the whole weight, and a mask of
    its shape, 1 where it is free, gives the places by hand.  The values are N(0, kappa^2): `kappa` is a standard
    deviation, one for all or one for each name.  Networks that are to be compared should share the result.  At kappa =
    0 permutations are gone, but scales and signs remain, see `Pinning.arch`.

    Raises ValueError for unknown names, numbers that leave fewer places than rows, masks with equal rows or a row that
    is wholly held, a kappa that is negative or not finite, and for no generator.

    Source: Lim et al., arXiv 2405.20231, section 2, and its code (kappa as a standard deviation); distinct rows: ours.
    """
    check_generator(generator, "w_asymmetric")
    scales = kappa if isinstance(kappa, Mapping) else dict.fromkeys(fixed, kappa)
    if scales.keys() != fixed.keys():
        raise ValueError(f"w_asymmetric: kappa should be one number or name {', '.join(fixed)}, got {kappa!r}")
    whole = tuple(filters)
    for k in whole:
        check_known(k, [k for k in fixed if len(arch.shapes.get(k, ())) > 2], "kernel among those that hold filters")
    free, values = {}, {}
    for k, held in fixed.items():
        check_known(k, arch.shapes, f"parameter of {arch.name}")
        if not 0 <= real(scales[k], f"w_asymmetric: kappa of {k}") < math.inf:
            raise ValueError(f"w_asymmetric: kappa of {k} should be finite and not negative, got {scales[k]}")
        free[k] = _free(held, arch.shapes[k], 2 if k in whole else len(arch.shapes[k]), k, generator)
        drawn = torch.randn(free[k].shape, generator=generator, dtype=torch.float64, device=generator.device)
        values[k] = scales[k] * drawn * (1 - free[k])
    return Pinning(arch, free, values)


def densest_mask(rows: int, columns: int) -> Tensor:
    """The mask (rows, columns) with rows that are distinct and not 0, and with the fewest zeros: float64, 1 is free.

    The first row has no zero, then come those with one, with two ...: 10 zeros for 8 rows of 4, 22 for 16 of 8.

    Raises ValueError for sizes that are not positive and for more rows than the 2^columns - 1 there are.

    Source: Lim et al., arXiv 2405.20231, the mask "densest" of its code.
    """
    rows, columns = sizes((rows, columns), "densest_mask: (rows, columns)", 2, 2)
    if rows >= 2**columns:
        raise ValueError(f"densest_mask: {columns} columns make {2**columns - 1} different rows, fewer than {rows}")
    held = itertools.chain.from_iterable(itertools.combinations(range(columns), n) for n in range(columns))
    out = torch.ones(rows, columns, dtype=torch.float64)
    for row, places in zip(out, held, strict=False):
        row[list(places)] = 0
    return out


def _free(held: Held, shape: tuple[int, ...], axes: int, name: str, generator: torch.Generator) -> Tensor:
    """The mask of a weight, places being drawn over its first `axes` axes."""
    full = partial(torch.zeros, dtype=torch.float64, device=generator.device)
    if isinstance(held, Tensor):
        return _by_hand(held, shape, name).to(full(()))
    if isinstance(held, str):
        check_known(held, ["all"], f"way to hold {name}, beside a number and a mask:")
        return full(shape)
    check_positive(held, f"w_asymmetric: the entries held in each row of {name}")
    places = _places(shape[0], math.prod(shape[1:axes]), held, name, generator)
    return (1 - places).reshape(*shape[:axes], *(1 for _ in shape[axes:])) + full(shape)


def _by_hand(mask: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    if tuple(mask.shape) != tuple(shape) or not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"w_asymmetric: the mask of {name} should be 0 or 1 of shape {shape}, got {tuple(mask.shape)}")
    rows = mask.flatten(1).tolist()
    if closed := [i for i, row in enumerate(rows) if not any(row)]:
        raise ValueError(f'w_asymmetric: the mask of {name} holds all of row {closed[0]}; "all" holds a whole weight')
    first: dict[tuple[float, ...], int] = {}
    for i, row in enumerate(rows):
        if (j := first.setdefault(tuple(row), i)) != i:
            raise ValueError(f"w_asymmetric: rows {j} and {i} of the mask of {name} are equal, they can be exchanged")
    return mask


def _places(rows: int, columns: int, n: int, name: str, generator: torch.Generator) -> Tensor:
    """Rows of n ones at random places, no two alike: a row that was there before is drawn again."""
    if n == columns:
        raise ValueError(f'w_asymmetric: {n} entries are the whole of each row of {name}; "all" holds a whole weight')
    if math.comb(columns, n) < rows:
        raise ValueError(
            f"w_asymmetric: {name} has {rows} rows, but {n} of {columns} entries make fewer different ones"
        )
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < rows:
        order = torch.randperm(columns, generator=generator, device=generator.device)
        drawn.setdefault(tuple(sorted(order[:n].tolist())))
    places = torch.tensor(list(drawn), device=generator.device)
    return torch.zeros(rows, columns, dtype=torch.float64, device=generator.device).scatter_(1, places, 1.0)
