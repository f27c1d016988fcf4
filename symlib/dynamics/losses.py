"""Losses: one number per member, and their gradients.  Members do not interact."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from symlib.guards import check_labels, holds

Params = Mapping[str, Tensor]
Loss = Callable[..., Tensor]


def member(theta: Params, index: int) -> dict[str, Tensor]:
    """The parameters of one member.  Source: ours."""
    return {k: v[index] for k, v in theta.items()}


def over_members(forward: Callable[[Params, Tensor], Tensor]) -> Callable[[Params, Tensor], Tensor]:
    """A forward pass for one network as one for many: parameters carry a leading member axis, the input does not.

    Needed only where plain broadcasting does not serve (convolutions, stacks of heads).  Source: torch.func.vmap.
    """
    return torch.func.vmap(forward, in_dims=(0, None))


def mse(prediction: Float[Tensor, "*members k n"], target: Float[Tensor, "... k n"]) -> Float[Tensor, "*members"]:
    """Half the mean over samples (columns) of the squared error: (..., k, n), (k, n) -> (...).

    The target may carry the member axes too.  Raises ValueError for any other shape of it.  Source: ours.
    """
    if target.ndim < 2 or target.shape != prediction.shape[-target.ndim :]:
        raise ValueError(f"mse: prediction {tuple(prediction.shape)} and target {tuple(target.shape)} do not fit")
    return (prediction - target).square().sum(dim=-2).mean(dim=-1) / 2


def cross_entropy(
    logits: Float[Tensor, "*members classes n"], labels: Int[Tensor, "... n"]
) -> Float[Tensor, "*members"]:
    """The mean over samples (columns) of the cross entropy in nats: (..., classes, n), (n,) -> (...).

    The labels may carry the member axes too.

    Raises ValueError unless there is one label in 0..classes-1 for every sample.  Source: ours.
    """
    check_labels(logits, labels, "cross_entropy")
    index = labels.long().expand(*logits.shape[:-2], logits.shape[-1]).unsqueeze(-1)
    picked = torch.log_softmax(logits, dim=-2).movedim(-2, -1).gather(-1, index)
    return -picked.squeeze(-1).mean(dim=-1)


def accuracy(logits: Float[Tensor, "*members classes n"], labels: Int[Tensor, "... n"]) -> Float[Tensor, "*members"]:
    """The fraction of samples (columns) classified right: (..., classes, n), (n,) -> (...).

    The labels may carry the member axes too.

    Raises ValueError unless there is one label in 0..classes-1 for every sample.  Source: ours.
    """
    check_labels(logits, labels, "accuracy")
    return (logits.argmax(dim=-2) == labels).double().mean(dim=-1)


@dataclass(frozen=True)
class Pinned:
    """A loss with some parameters held: loss(free * theta + fixed), `free` 0 where they are held and 1 elsewhere.

    Only the free entries of theta matter and move; decay takes the others to 0.  Parameters that `free` does not name
    are free.  Raises ValueError unless `free` and `fixed` have the same names and shapes, and for a `free` that is not
    of zeros and ones.  Source: the W-asymmetric networks of Lim et al., arXiv 2405.20231.
    """

    loss: Loss
    free: Params
    fixed: Params

    def __post_init__(self) -> None:
        if {k: v.shape for k, v in self.free.items()} != {k: v.shape for k, v in self.fixed.items()}:
            raise ValueError("pinned: free and fixed should have the same names and shapes")
        bad = [k for k, v in self.free.items() if not holds((v == 0) | (v == 1))]
        if bad:
            raise ValueError(f"pinned: free should be 0 or 1 everywhere, it is not in {', '.join(bad)}")

    def whole(self, theta: Params) -> dict[str, Tensor]:
        """The parameters of the network: free * theta + fixed."""
        return {k: torch.addcmul(self.fixed[k], self.free[k], v) if k in self.free else v for k, v in theta.items()}

    def __call__(self, theta: Params, *batch: Tensor) -> Tensor:
        """The loss of every member."""
        return self.loss(self.whole(theta), *batch)

    def gradient(self, theta: Params, *batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of every member and its gradient, 0 where theta is held."""
        value, grads = gradient(self.loss, self.whole(theta), *batch)
        return value, {k: v * self.free[k] if k in self.free else v for k, v in grads.items()}


def gradient(loss: Loss, theta: Params, *batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of every member and its gradient, by the loss's own `gradient` where it has one, else by autograd.

    Raises ValueError unless the loss is a tensor of one number, or one per member.  Source: ours (members do not
    interact: the gradient of the sum).
    """
    if (own := getattr(loss, "gradient", None)) is not None:
        return own(theta, *batch)
    leaves = {k: v.detach().requires_grad_() for k, v in theta.items()}
    value = loss(leaves, *batch)
    if not isinstance(value, Tensor) or value.ndim > 1:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"the loss should be a tensor of one number per member, got {got}")
    grads = torch.autograd.grad(value.sum(), tuple(leaves.values()))
    return value.detach(), dict(zip(leaves, grads, strict=True))
