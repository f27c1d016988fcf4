"""Ranks of a matrix or of features, and what a linear probe reads from them: float64, leading member axes kept.

Cuts are relative to the largest singular value.  With `centred`, the mean row is subtracted first: the singular values
are then the square roots of n times the eigenvalues of the rows' covariance, so that a cut of 1e-3 on the covariance is
rtol = 1e-3**0.5 here.
"""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from symlib.guards import check_finite, check_positive, real


def singular_values(matrix: Tensor, where: str = "rank", *, centred: bool = False) -> Float[Tensor, "*batch k"]:
    """The singular values of (..., m, n) in float64, largest first; with `centred`, those of the rows from their mean.

    Raises ValueError for fewer than two axes, and for NaN or inf.  Source: ours.
    """
    if matrix.ndim < 2:
        raise ValueError(f"{where}: wanted a matrix (..., m, n), got shape {tuple(matrix.shape)}")
    check_finite(matrix, where)
    matrix = matrix.double()
    if centred:
        matrix = matrix - matrix[..., :1, :]  # equal rows are zero exactly, however far from the origin
        matrix = matrix - matrix.sum(dim=-2, keepdim=True) / max(1, matrix.shape[-2])
    return torch.linalg.svdvals(matrix)


def numerical_rank(matrix: Tensor, *, rtol: float = 1e-9, centred: bool = False) -> Int[Tensor, "*batch"]:
    """The number of singular values above rtol times the largest: (..., m, n) -> (...).  The zero matrix has rank 0.

    Source: Golub and Van Loan, Matrix Computations, section 5.4 (numerical rank), with a relative cut.
    """
    s = singular_values(matrix, "numerical_rank", centred=centred)
    return (s > rtol * s[..., :1]).sum(dim=-1)


def stable_rank(matrix: Tensor, *, centred: bool = False) -> Float[Tensor, "*batch"]:
    """The stable rank |A|_F^2 / |A|_2^2: (..., m, n) -> (...), between 1 and the rank.  The zero matrix has 0.

    Source: Rudelson and Vershynin, arXiv math/0503442.
    """
    s = singular_values(matrix, "stable_rank", centred=centred)
    return (s / s[..., :1].clamp_min(torch.finfo(s.dtype).tiny)).square().sum(dim=-1)


def effective_rank(matrix: Tensor, *, centred: bool = False) -> Float[Tensor, "*batch"]:
    """The effective rank exp(-sum p_i log p_i), p_i = s_i / sum_j s_j: (..., m, n) -> (...).  The zero matrix has 0.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007, Definition 1.
    """
    s = singular_values(matrix, "effective_rank", centred=centred)
    total = s.sum(dim=-1, keepdim=True)
    p = s / total.clamp_min(torch.finfo(s.dtype).tiny)
    return torch.where(total[..., 0] > 0, torch.special.entr(p).sum(dim=-1).exp(), 0.0)


def participation_ratio(matrix: Tensor, *, centred: bool = False) -> Float[Tensor, "*batch"]:
    """The participation ratio (sum s_i^2)^2 / sum s_i^4: (..., m, n) -> (...), between 1 and the rank.  Zero has 0.

    With `centred` it is (tr C)^2 / tr C^2 of the covariance C of the rows, the dimension of a cloud of points.

    Source: Gao, Trautmann, Yu, Santhanam, Ryu, Shenoy, Ganguli, bioRxiv 214262.
    """
    s = singular_values(matrix, "participation_ratio", centred=centred)
    share = (s / s[..., :1].clamp_min(torch.finfo(s.dtype).tiny)).square()
    return share.sum(dim=-1).square() / share.square().sum(dim=-1).clamp_min(torch.finfo(s.dtype).tiny)


def probe_accuracy(
    train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, *, C: float = 1.0, max_iter: int = 100
) -> float:
    """The test accuracy of a logistic regression on the rows (n, d) of `train`: what a linear readout finds in them.

    Multinomial, with an intercept and a penalty |W|^2 / (2 C); lbfgs ends after `max_iter` steps, converged or not.
    Both sets are shifted by the mean row of `train` and divided by **one** number, the root mean square of the rest:
    a shift, a scale or a rotation of all features changes nothing, and directions keep their relative sizes.

    Raises ValueError for shapes and labels that do not belong together, a single class, NaN or inf, and C that is not
    positive.  Source: Alain and Bengio, arXiv 1610.01644; the common scale is ours.
    """
    if not real(C, "probe_accuracy: C") > 0:
        raise ValueError(f"probe_accuracy: C should be positive, got {C!r}")
    check_positive(max_iter, "probe_accuracy: max_iter")
    shapes = tuple(tuple(x.shape) for x in (train, labels, test, test_labels))
    if not (train.ndim == test.ndim == 2 and shapes[0][1:] == shapes[2][1:] and 0 not in train.shape + test.shape):
        raise ValueError(f"probe_accuracy: wanted rows (n, d) and (m, d), got {shapes[0]} and {shapes[2]}")
    if shapes[1] != shapes[0][:1] or shapes[3] != shapes[2][:1] or len(labels.unique()) < 2:
        wanted = f"{shapes[0][0]} labels of at least two classes and {shapes[2][0]} test labels"
        raise ValueError(f"probe_accuracy: wanted {wanted}, got {shapes[1]} and {shapes[3]}")
    check_finite(train, "probe_accuracy: train")
    check_finite(test, "probe_accuracy: test")

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean = train.double().mean(dim=0)
    scale = (train.double() - mean).square().mean().sqrt()
    x, x_test = ((rows.double() - mean) / torch.where(scale > 0, scale, 1.0) for rows in (train, test))
    probe = LogisticRegression(C=C, max_iter=max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(x.cpu().numpy(), labels.cpu().numpy())
    return float(probe.score(x_test.cpu().numpy(), test_labels.cpu().numpy()))
