"""How alike two sets of features of the same samples are, whatever the basis of each, and what chance would give.

Features are rows a (..., n, d) and b (..., n, e): row i of both belongs to sample i; the widths may differ, and leading
member axes broadcast.  All is computed in float64.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from symlib.guards import check_finite, check_generator, check_positive

BLOCK = 1 << 22  # similarities of pairs that are held at a time
ROUNDING = 1e-13  # shares below this are zero
TINY = torch.finfo(torch.float64).tiny


def linear_cka(a: Tensor, b: Tensor, *, centred: bool = True, debiased: bool = False) -> Float[Tensor, "*batch"]:
    """Linear centred kernel alignment, |A^T B|^2 / (|A^T A| |B^T B|) in Frobenius norms, A and B the centred rows.

    Between 0 and 1, and 1 for features that are equal up to rotation, scale and shift; constant features have 0 with
    everything.  It is the cosine of the Gram matrices A A^T and B B^T, without centring that of the Gram matrices as
    they are.  Few samples of many features look alike by chance: `debiased` puts the unbiased estimator of HSIC,

        |A^T B|^2 - n/(n-2) sum_i |a_i|^2 |b_i|^2 + sum_i |a_i|^2 sum_i |b_i|^2 / ((n-1)(n-2)),   up to n (n-3),

    in all three places: near 0, of either sign, for unrelated features; 0 if that of a set with itself is 0.

    Raises ValueError for shapes that do not fit, NaN or inf, and `debiased` uncentred or with fewer than 4 samples.

    Source: Kornblith, Norouzi, Lee, Hinton, arXiv 1905.00414; the estimator of Song, Smola, Gretton, Bedo, Borgwardt,
    JMLR 13 (2012), as in Nguyen, Raghu, Kornblith, arXiv 2010.15327; its form for centred rows is ours.
    """
    A, B = _prepared(a, b, centred)
    n = A.shape[-2]
    if debiased and not (centred and n > 3):
        raise ValueError(f"linear_cka: the debiased estimate wants centred=True and at least 4 samples, got {n}")

    def hsic(x: Tensor, y: Tensor) -> Tensor:
        inner = (x.mT @ y).square().sum(dim=(-2, -1))
        if not debiased:
            return inner
        p, q = x.square().sum(dim=-1), y.square().sum(dim=-1)
        return inner - n / (n - 2) * (p * q).sum(dim=-1) + p.sum(dim=-1) * q.sum(dim=-1) / ((n - 1) * (n - 2))

    both, alone = hsic(A, B), [hsic(x, x) for x in (A, B)]  # |A^T A|^2 is at least 1 / n for |A| = 1
    return torch.where(torch.minimum(*alone) > ROUNDING / n, both / (alone[0] * alone[1]).abs().sqrt(), 0.0)


def mutual_knn(a: Tensor, b: Tensor, k: int = 10) -> Float[Tensor, "*batch"]:
    """The share of the k nearest neighbours that a sample has in common in both sets, averaged over samples: in [0, 1].

    Near means a large cosine of the rows as they are; a sample is no neighbour of itself.  Unrelated features have
    k / (n - 1) on average.  Ties, as between equal rows, are broken in an order of no meaning.

    Raises ValueError for shapes that do not fit, NaN or inf, and k outside 1..n-1.

    Source: Huh, Cheung, Wang, Isola, arXiv 2405.07987 (mutual k-nearest neighbours).
    """
    _check(a, b)
    check_positive(k, "mutual_knn: k")
    if k >= a.shape[-2]:
        raise ValueError(f"mutual_knn: k should be below the number of samples, {a.shape[-2]}, got {k}")
    near = [_neighbours(x, k) for x in (a, b)]
    both = near[0].unsqueeze(-1) == near[1].unsqueeze(-2)  # (..., n, k, k)
    return both.sum(dim=(-2, -1)).double().mean(dim=-1) / k


def procrustes(a: Tensor, b: Tensor) -> Float[Tensor, "*batch"]:
    """The Procrustes distance, min over rotations R and scales c of |A - c B R|^2, with A and B centred and |A| = 1.

    It is 1 - (sum of the singular values of A^T B)^2 with |B| = 1 too: 0 for features equal up to rotation, scale and
    shift, at most 1, and 1 for constant features.  Raises ValueError for shapes that do not fit, and NaN or inf.

    Source: Gower, Psychometrika 40 (1975); the `disparity` of scipy.spatial.procrustes.
    """
    A, B = _prepared(a, b, centred=True)
    return (1 - torch.linalg.svdvals(A.mT @ B).sum(dim=-1).square()).clamp_min(0)


def permutation_null(
    measure: Callable[[Tensor, Tensor], Tensor],
    a: Tensor,
    b: Tensor,
    generator: torch.Generator,
    *,
    draws: int = 3,
    labels: Tensor | None = None,
) -> Float[Tensor, "draws ..."]:
    """What a measure says of features whose samples do not belong together: (draws, ...), the rows of b permuted anew.

    With labels (n,) only samples of one class are exchanged, so that what two sets owe to their classes alone remains.

    Raises ValueError for no generator, shapes or labels that do not fit, and draws below 1.

    Source: ours; similarity against a permutation null as in arXiv 2602.14486.
    """
    check_generator(generator, "permutation_null")
    check_positive(draws, "permutation_null: draws")
    _check(a, b)
    n = b.shape[-2]
    if labels is not None and labels.shape != (n,):
        raise ValueError(f"permutation_null: wanted {n} labels, got shape {tuple(labels.shape)}")
    values = []
    for _ in range(draws):
        order = torch.randperm(n, generator=generator, device=generator.device).to(b.device)
        if labels is not None:
            group = labels.to(b.device)
            here, there = group.argsort(stable=True), order[group[order].argsort(stable=True)]
            order = torch.empty_like(order).scatter(0, here, there)
        values.append(torch.as_tensor(measure(a, b[..., order, :]), dtype=torch.float64))
    return torch.stack(values)


def _check(a: Tensor, b: Tensor) -> None:
    if a.ndim < 2 or b.ndim < 2 or a.shape[-2] != b.shape[-2] or 0 in (*a.shape, *b.shape):
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"similarity: wanted rows (..., n, d) and (..., n, e) of the same samples, got {shapes}")
    check_finite(a, "similarity: a")
    check_finite(b, "similarity: b")


def _prepared(a: Tensor, b: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
    """Both in float64, centred if wanted, of Frobenius norm 1 (or 0); wide ones as n x n with the same Gram matrix."""
    _check(a, b)
    found = []
    for x in (a.double(), b.double()):
        if centred:
            x = x - x[..., :1, :]  # equal rows are zero exactly, however far from the origin
            x = x - x.mean(dim=-2, keepdim=True)
        x = x / x.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(TINY)  # or squares of small numbers vanish
        x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(TINY)
        found.append(torch.linalg.qr(x.mT, mode="r").R.mT if x.shape[-2] < x.shape[-1] else x)
    return found[0], found[1]


def _neighbours(x: Tensor, k: int) -> Tensor:
    """The indices (..., n, k) of the k other rows of largest cosine, some rows at a time."""
    n, unit = x.shape[-2], torch.nn.functional.normalize(x.double(), dim=-1, eps=TINY)
    step, found = max(1, BLOCK // unit[..., 0].numel()), []
    for i in range(0, n, step):
        cosine = unit[..., i : i + step, :] @ unit.mT
        cosine.diagonal(offset=i, dim1=-2, dim2=-1).fill_(-torch.inf)
        found.append(cosine.topk(k, dim=-1).indices)
    return torch.cat(found, dim=-2)
