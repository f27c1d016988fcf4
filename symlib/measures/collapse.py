"""Neural collapse: how far features lie from one simplex of class means, read off by a classifier that mirrors it.

Features are rows (..., n, d) with leading member axes; labels (n,) or (..., n) are 0..K-1, every class present in every
member; all is computed in float64.  m_c = mu_c - mu are the centred class means, and the centre mu is the **mean of the
class means**: the mean of all samples when classes are of equal size, and the choice that keeps every class equally
important when they are not (S_W is a mean over samples in both cases).

The data are read twice, in blocks: once for the means, and once for the deviations from them, which are squared and
only then added.  Nothing is subtracted from a sum of squares, so nothing cancels or turns negative.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from symlib.guards import check_finite, holds

BLOCK = 1 << 18  # entries of the features that are held in float64 at a time
ROUNDING = 1e-13  # singular values of the centred means below this share of all scatter are zero


@dataclass(frozen=True)
class Collapse:
    """All measures of one state, a number for each member; 0 is collapse.  See the functions of this module."""

    nc1: Float[Tensor, "*batch"]
    equinorm: Float[Tensor, "*batch"]
    equiangle: Float[Tensor, "*batch"]
    nc3: Float[Tensor, "*batch"]
    nc4: Float[Tensor, "*batch"]
    within: Float[Tensor, "*batch"]


def class_means(
    features: Tensor, labels: Tensor
) -> tuple[Float[Tensor, "*batch classes d"], Float[Tensor, "*batch d"]]:
    """The means of the classes (..., K, d) and their mean (..., d), the centre of all measures here.

    Raises ValueError for shapes that do not fit, NaN or inf, fewer than two classes, and classes without a sample.

    Source: Papyan, Han, Donoho, PNAS 2020; the centre there is the mean of all samples, in the demo notebook this one.
    """
    classes = _Classes.of(features, labels)
    means = (classes.origin + classes.means).unflatten(0, features.shape[:-2] or (1,))
    means = means if features.ndim > 2 else means[0]
    return means, means.mean(dim=-2)


def nc1(features: Tensor, labels: Tensor, *, per_class: bool = True) -> Float[Tensor, "*batch"]:
    """NC1, the scatter within classes in units of that between them: tr(S_W pinv(S_B)) / K; 0 when classes are points.

    S_W = mean over samples of (x - mu_c)(x - mu_c)^T, S_B = mean over classes of m_c m_c^T.  `per_class=False` leaves
    out the division by K, as the demo notebook of the source does.  With the singular values s_j and right vectors v_j
    of the K x d matrix of the m_c, of which K - 1 are not zero, it is sum_j v_j^T S_W v_j / s_j^2: no d x d matrix.

    Directions in which class means do not differ at all are left out, as by the pseudo-inverse; when all class means
    coincide (no direction is left) NC1 is inf, also where S_W is zero.  It is never NaN.  Raises as `class_means`.

    Source: Papyan, Han, Donoho, PNAS 2020, NC1.
    """
    classes = _Classes.of(features, labels)
    value = _scatter(classes).nc1
    return (value if per_class else classes.means.shape[1] * value).reshape(features.shape[:-2])


def nc2_equinorm(features: Tensor, labels: Tensor) -> Float[Tensor, "*batch"]:
    """NC2, lengths: the standard deviation of the |m_c| by their mean; 0 when all are zero.

    The variance is a mean over K; the demo notebook of the source takes K - 1.  Raises ValueError as `class_means`.

    Source: Papyan, Han, Donoho, PNAS 2020, NC2 (equal norms).
    """
    return _equinorm(_Classes.of(features, labels).centred).reshape(features.shape[:-2])


def nc2_equiangle(features: Tensor, labels: Tensor) -> Float[Tensor, "*batch"]:
    """NC2, angles: the mean over pairs of classes of |cos(m_c, m_c') + 1 / (K - 1)|; a zero m_c has cosine 0.

    Raises ValueError as `class_means` does.  Source: Papyan, Han, Donoho, PNAS 2020, NC2 (equal, largest angles).
    """
    return _equiangle(_Classes.of(features, labels).centred).reshape(features.shape[:-2])


def nc3(features: Tensor, labels: Tensor, weight: Tensor) -> Float[Tensor, "*batch"]:
    """NC3, self-duality: | W / |W| - M / |M| | in Frobenius norms, M the m_c as rows, W (K, d) or (..., K, d).

    Between 0 and 2; a zero M or W counts as 0, not as NaN.  Raises ValueError as `class_means`, and for another weight.

    Source: Papyan, Han, Donoho, PNAS 2020, NC3; their demo notebook squares it.
    """
    classes = _Classes.of(features, labels)
    W, _ = _classifier(classes, features, weight, None)
    return _duality(classes.centred, W).reshape(features.shape[:-2])


def nc4(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None = None) -> Float[Tensor, "*batch"]:
    """NC4: the fraction of samples whose largest logit, W x + b, is not that of the nearest class mean.

    W is (K, d) or (..., K, d), b is (K,) or (..., K).  Raises ValueError as `class_means`, and for another W or b.

    Source: Papyan, Han, Donoho, PNAS 2020, NC4.
    """
    classes = _Classes.of(features, labels)
    return _scatter(classes, *_classifier(classes, features, weight, bias)).nc4.reshape(features.shape[:-2])


def collapse(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None = None) -> Collapse:
    """All measures of this module from the same two readings of the data, and `within` = tr S_W / tr S_B.

    `within` divides two numbers instead of two matrices, so that directions count by their scatter; it is inf where NC1
    is.  Raises ValueError as `nc4` does.  Source: Papyan, Han, Donoho, PNAS 2020; `within` ours.
    """
    classes = _Classes.of(features, labels)
    W, b = _classifier(classes, features, weight, bias)
    scatter, m, shape = _scatter(classes, W, b), classes.centred, features.shape[:-2]
    found = (scatter.nc1, _equinorm(m), _equiangle(m), _duality(m, W), scatter.nc4, scatter.within)
    return Collapse(*(value.reshape(shape) for value in found))


@dataclass(frozen=True)
class _Classes:
    """Rows (b, n, d) and labels (b, n) of b members; the first row is the origin (b, 1, d) of class means (b, K, d)."""

    rows: Tensor
    labels: Tensor
    origin: Tensor
    means: Tensor

    @classmethod
    def of(cls, features: Tensor, labels: Tensor) -> "_Classes":
        shape = tuple(features.shape)
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        fits = len(shape) >= 2 and 0 not in shape and labels.shape in (shape[-2:-1], shape[:-1])
        if not (whole and fits):
            wanted = "collapse: wanted features (..., n, d) and n whole numbers as labels"
            raise ValueError(f"{wanted}, got {shape} and {labels.dtype} {tuple(labels.shape)}")
        check_finite(features, "collapse: features")
        low, K = int(labels.min()), int(labels.max()) + 1
        if low < 0 or K < 2:
            raise ValueError(f"collapse: wanted labels 0..K-1 of at least two classes, got {low}..{K - 1}")
        rows = features.reshape(-1, *shape[-2:])
        labels = labels.to(rows.device).long().expand(shape[:-1]).reshape(rows.shape[:2])
        classes = cls(rows, labels, rows[:, :1].double(), rows.new_zeros(len(rows), K, 1, dtype=torch.float64))
        sums, counts = torch.zeros_like(classes.means), torch.zeros_like(classes.means)
        for x, y in classes.blocks():
            member = torch.nn.functional.one_hot(y, K).to(x.dtype).mT  # (b, K, block)
            sums, counts = sums + member @ x, counts + member.sum(dim=-1, keepdim=True)
        if not holds(counts > 0):
            missing = sorted({int(c) for c in (counts == 0).nonzero()[:, 1]})
            raise ValueError(f"collapse: no sample of class {', '.join(map(str, missing))} among 0..{K - 1}")
        return cls(rows, labels, classes.origin, sums / counts)

    @property
    def centred(self) -> Tensor:
        return self.means - self.means.mean(dim=1, keepdim=True)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows from the origin, in float64, and their labels, some rows of all members at a time."""
        step = max(1, BLOCK // (self.rows.shape[0] * self.rows.shape[2]))
        for rows, labels in zip(self.rows.split(step, dim=1), self.labels.split(step, dim=1), strict=True):
            yield rows.double() - self.origin, labels


@dataclass(frozen=True)
class _Scatter:
    nc1: Tensor
    nc4: Tensor
    within: Tensor


def _scatter(classes: _Classes, W: Tensor | None = None, b: Tensor | float = 0.0) -> _Scatter:
    """What needs the deviations r = x - mu_c: the second reading of the data.

    With r also the nearest class mean, the largest r . m_k - |m_c - m_k|^2 / 2, and the logits W r + (W mu_c + b).
    """
    m, (members, n), K = classes.centred, classes.labels.shape, classes.means.shape[1]
    U, s, Vh = torch.linalg.svd(m, full_matrices=False)
    Us, s, V = (U * s[:, None])[..., : K - 1], s[:, : K - 1], Vh[:, : K - 1].mT
    half = torch.cdist(m, m, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
    logits = half if W is None else (classes.origin + classes.means) @ W.mT + b
    each = torch.arange(members, device=m.device)[:, None]
    along, total, wrong = torch.zeros_like(s), s.new_zeros(members), s.new_zeros(members)
    for x, y in classes.blocks():
        r = x - classes.means[each, y]
        total += r.square().sum(dim=(1, 2))
        p = r @ V
        along += p.square().sum(dim=1)
        if W is not None:
            nearest = (p @ Us.mT - half[each, y]).argmax(dim=-1)
            wrong += (nearest != (r @ W.mT + logits[each, y]).argmax(dim=-1)).sum(dim=1)
    between = s.square().sum(dim=1) / K
    kept = s > ROUNDING * (K * (between + total / n)).sqrt()[:, None]
    shares = torch.where(kept, along / n / s.square(), 0.0).sum(dim=1)
    some = kept.any(dim=1)
    return _Scatter(torch.where(some, shares, torch.inf), wrong / n, torch.where(some, total / n / between, torch.inf))


def _classifier(classes: _Classes, features: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The weight (b, K, d) and the bias (b, 1, K) of every member, in float64; a missing bias is zero."""
    (members, K, d), batch = classes.means.shape, features.shape[:-2]
    b = weight.new_zeros(K) if bias is None else bias
    if weight.shape not in ((K, d), (*batch, K, d)) or b.shape not in ((K,), (*batch, K)):
        wanted = f"weight {(K, d)} and bias {(K,)}, or with the members {tuple(batch)} before them"
        raise ValueError(f"collapse: wanted {wanted}, got {tuple(weight.shape)} and {tuple(b.shape)}")
    check_finite(weight, "collapse: weight")
    check_finite(b, "collapse: bias")
    W = weight.double().expand(*batch, K, d).reshape(members, K, d)
    return W, b.double().expand(*batch, K).reshape(members, 1, K)


def _equinorm(m: Tensor) -> Tensor:
    norms = m.norm(dim=-1)
    return norms.std(dim=-1, correction=0) / norms.mean(dim=-1).clamp_min(torch.finfo(m.dtype).tiny)


def _equiangle(m: Tensor) -> Tensor:
    K, unit = m.shape[1], torch.nn.functional.normalize(m, dim=-1, eps=torch.finfo(m.dtype).tiny)
    gap = (unit @ unit.mT + 1 / (K - 1)).abs()
    return (gap.sum(dim=(1, 2)) - gap.diagonal(dim1=1, dim2=2).sum(dim=1)) / (K * (K - 1))


def _duality(m: Tensor, W: Tensor) -> Tensor:
    tiny = torch.finfo(m.dtype).tiny
    scaled = [x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(tiny) for x in (W, m)]
    return torch.linalg.matrix_norm(scaled[0] - scaled[1])
