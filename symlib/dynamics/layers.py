"""The loss of a multilayer perceptron with its backward pass written out: what an ensemble spends its time on."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from symlib.dynamics.losses import Params
from symlib.guards import check_known, check_labels, holds

TILE = 2**19  # numbers in a hidden layer that a CPU works on at once: so many members that they stay in its cache

# activation -> the function, in place, and the derivative of a gradient (delta, which it may overwrite) from its output
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "linear": (lambda z: z, lambda delta, h: delta),
    "relu": (torch.relu_, lambda delta, h: delta.mul_(h.gt_(0))),  # the output is not needed any more
    "tanh": (torch.tanh_, torch.ops.aten.tanh_backward),
    "sigmoid": (torch.sigmoid_, torch.ops.aten.sigmoid_backward),
}


def _leaky(slope: float | Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """The same two for max(z, slope z): the output has the sign of z, or is 0 where the slope is."""

    def backward(delta: Tensor, h: Tensor) -> Tensor:
        return delta.mul_(torch.where(h > 0, 1.0, torch.as_tensor(slope).to(h)))

    return lambda z: torch.maximum(z, torch.as_tensor(slope).to(z) * z), backward


def _mse(out: Tensor, target: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """The loss of `mse`, and what gives its derivative by the output (once: it is made in place)."""
    if target.ndim < 2 or target.shape != out.shape[-target.ndim :]:
        raise ValueError(f"layered loss: output {tuple(out.shape)} and target {tuple(target.shape)} do not fit")
    away = out - target
    return away.square().sum(dim=(-2, -1)) / (2 * out.shape[-1]), lambda: away.div_(out.shape[-1])


def _cross_entropy(out: Tensor, labels: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """The loss of `cross_entropy`, and what gives its derivative: softmax minus the indicator of the label."""
    check_labels(out, labels, "layered loss")
    n, index = out.shape[-1], labels.long().expand(out.shape[0], out.shape[-1]).unsqueeze(1)
    logp = torch.log_softmax(out, dim=1)
    value = -logp.gather(1, index).sum(dim=(1, 2)) / n
    less = logp.new_full((1, 1, 1), -1.0).expand(index.shape)
    return value, lambda: logp.exp_().scatter_add_(1, index, less).div_(n)


_LOSSES = {"mse": _mse, "cross-entropy": _cross_entropy}


@dataclass(frozen=True)
class LayeredLoss:
    """The loss of f = W_L s(... s(W_1 x + b_1) ...) + b_L, samples as columns, and its gradient without autograd.

    Parameters are named as in `architectures.mlp` (W1, b1, ..., biases optional), each with a leading member axis or
    without.  `loss(theta, x, y)` takes inputs (d, n) that all members share or (members, d, n), and targets likewise:
    (k, n) for "mse", labels (n,) for "cross-entropy".  `loss.gradient` gives the same value and the gradient, which
    `gradient` and `descend` take in place of autograd's.  "leaky-relu" is max(z, slope z) with one slope in [0, 1], or
    one for each unit, (h, 1) or (members, h, 1), the same in every hidden layer.

    Raises ValueError for another activation than linear, relu, leaky-relu, tanh and sigmoid, another loss, slopes
    outside [0, 1] or without their activation, and parameters that are no such network.  Source: back-propagation
    (Rumelhart, Hinton and Williams 1986).
    """

    activation: str
    kind: str = "mse"
    slope: float | Tensor | None = None

    def __post_init__(self) -> None:
        check_known(self.activation, [*_ACTIVATIONS, "leaky-relu"], "activation of a layered loss")
        check_known(self.kind, _LOSSES, "loss")
        if (self.activation == "leaky-relu") != (self.slope is not None):
            raise ValueError(f"layered loss: leaky-relu alone has a slope, got {self.activation}, slope {self.slope}")
        slope = torch.as_tensor(0.0 if self.slope is None else self.slope)
        if not holds((slope >= 0) & (slope <= 1)):
            raise ValueError("layered loss: slopes should lie between 0 and 1")

    def __call__(self, theta: Params, x: Tensor, y: Tensor) -> Tensor:
        """The loss of every member."""
        lifted, single = _lift(theta, x)
        value = _LOSSES[self.kind](self._forward(lifted, x)[-1], y)[0]
        return value[0] if single else value

    def output(self, theta: Params, x: Tensor) -> Tensor:
        """The output of every member, (members, k, n) or (k, n)."""
        lifted, single = _lift(theta, x)
        out = self._forward(lifted, x)[-1]
        return out[0] if single else out

    def hidden(self, theta: Params, x: Tensor) -> list[Tensor]:
        """What every hidden layer puts out, first to last, each (members, h, n) or (h, n)."""
        lifted, single = _lift(theta, x)
        return [h[0] if single else h for h in self._forward(lifted, x)[1:-1]]

    def gradient(self, theta: Params, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of every member and its gradient."""
        lifted, single = _lift(theta, x)
        members, widest = len(lifted["W1"]), max(v.shape[-2] for v in lifted.values())
        tile = max(1, TILE // (widest * x.shape[-1]))
        if tile < members and not x.is_cuda and not torch.compiler.is_compiling():
            shared = 1 + (self.kind == "mse")  # axes of targets that all members share
            cuts = [slice(i, i + tile) for i in range(0, members, tile)]
            parts = [self._members(c).gradient({k: v[c] for k, v in theta.items()}, x if x.ndim == 2 else x[c],
                                               y if y.ndim == shared else y[c]) for c in cuts]  # fmt: skip
            return torch.cat([v for v, _ in parts]), {k: torch.cat([g[k] for _, g in parts]) for k in theta}
        *hidden, out = self._forward(lifted, x)
        value, derivative = _LOSSES[self.kind](out, y)
        delta, backward, grads = derivative(), self._functions()[1], {}
        for i in range(len(hidden), 0, -1):
            if f"b{i}" in theta:
                grads[f"b{i}"] = delta.sum(dim=-1, keepdim=True)
            grads[f"W{i}"] = _outer(delta, hidden[i - 1])
            if i > 1:
                delta = backward(lifted[f"W{i}"].mT @ delta, hidden[i - 1])
        grads = {k: grads[k][0] if single else grads[k] for k in theta}
        return (value[0] if single else value), grads

    def _members(self, some: slice) -> "LayeredLoss":
        """The loss of some of the members: slopes of a member go with it."""
        own = isinstance(self.slope, Tensor) and self.slope.ndim == 3
        return replace(self, slope=self.slope[some]) if own else self  # type: ignore[index]

    def _functions(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
        return _ACTIVATIONS[self.activation] if self.slope is None else _leaky(self.slope)

    def _forward(self, theta: Params, x: Tensor) -> list[Tensor]:
        """The input, what every hidden layer puts out, and the output."""
        depth, act = sum(k.startswith("W") for k in theta), self._functions()[0]
        layers = [x]
        for i in range(1, depth + 1):
            W, h = theta[f"W{i}"], layers[-1]
            b, shared = theta.get(f"b{i}"), h.ndim == 2
            if shared:  # one input for all members: their rows make one tall product
                W, b = W.flatten(0, 1), None if b is None else b.flatten(0, 1)
            z = W @ h if b is None else torch.addmm(b, W, h) if shared else torch.baddbmm(b, W, h)
            z = z.unflatten(0, theta[f"W{i}"].shape[:2]) if shared else z
            layers.append(act(z) if i < depth else z)
        return layers


def _outer(delta: Tensor, h: Tensor) -> Tensor:
    """The sum over samples of delta h^T for every member; h may be one for all."""
    if h.ndim == 2:
        return (delta.flatten(0, 1) @ h.mT).unflatten(0, delta.shape[:2])
    return delta @ h.mT


def _lift(theta: Params, x: Tensor) -> tuple[Params, bool]:
    """The parameters with a member axis, and whether there was none.  ValueError for what is no such network."""
    depth = sum(k.startswith("W") for k in theta)
    known = [f"{kind}{i}" for i in range(1, depth + 1) for kind in "Wb"]
    shape = theta["W1"].shape if "W1" in theta else ()
    ndim, lead = len(shape), shape[:-2]
    fits = all(k in known and v.ndim == ndim and v.shape[:-2] == lead for k, v in theta.items())
    if not fits or ndim not in (2, 3):
        got = {k: tuple(v.shape) for k, v in theta.items()}
        raise ValueError(f"layered loss: wanted W1, b1, ..., all with one member axis or none, got {got}")
    if x.ndim not in (2, ndim) or (x.ndim == 3 and x.shape[:1] != lead):
        raise ValueError(f"layered loss: wanted inputs (d, n), or (members, d, n) as theta has, got {tuple(x.shape)}")
    if ndim == 3:
        return theta, False
    return {k: v.unsqueeze(0) for k, v in theta.items()}, True
