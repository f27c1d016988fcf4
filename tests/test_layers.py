"""The loss with the written-out backward pass is that of autograd over `architectures.mlp`, member by member.

The oracle is PyTorch's own loss of one network and autograd.  Every comparison meets a backward pass with one mistake.
"""

from dataclasses import dataclass
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symlib.architectures import mlp
from symlib.dynamics import LayeredLoss, descend, gradient, layers, member

F64 = torch.float64
WIDTHS = (3, 6, 5, 4, 7)
ACTIVATIONS = ["linear", "relu", "tanh", "sigmoid"]
KINDS = ["mse", "cross-entropy"]
TOLERANCE = {F64: 1e-13, torch.float32: 2e-5}


@dataclass(frozen=True)
class Case:
    """A network, its members, and what each of them is trained on."""

    activation: str = "relu"
    kind: str = "mse"
    depth: int = 2
    bias: bool = True
    members: int | None = 3
    own_x: bool = False
    own_y: bool = False
    dtype: torch.dtype = F64
    seed: int = 0

    def make(self):
        gen = torch.Generator().manual_seed(self.seed)
        widths, n = WIDTHS[: self.depth + 1], 9
        arch = mlp(widths, self.activation, bias=self.bias)
        theta = arch.init(gen, self.dtype, members=self.members, scale=1.5)
        lead = () if self.members is None else (self.members,)
        x = torch.randn(*(lead if self.own_x else ()), widths[0], n, generator=gen, dtype=F64).to(self.dtype)
        if self.kind == "mse":
            y = torch.randn(*(lead if self.own_y else ()), widths[-1], n, generator=gen, dtype=F64).to(self.dtype)
        else:
            y = torch.randint(widths[-1], (*(lead if self.own_y else ()), n), generator=gen)
        return arch, LayeredLoss(self.activation, self.kind), theta, x, y


def alone(case, arch, theta, x, y, i):
    """The loss and the gradient of one member, by PyTorch's loss and autograd."""
    pick = lambda v, own: v[i] if case.members is not None and own else v  # noqa: E731
    leaves = {k: pick(v, True).clone().requires_grad_() for k, v in theta.items()}
    out, target = arch(leaves, pick(x, case.own_x)), pick(y, case.own_y)
    if case.kind == "mse":
        value = torch.nn.functional.mse_loss(out, target, reduction="sum") / (2 * out.shape[-1])
    else:
        value = torch.nn.functional.cross_entropy(out.T, target)
    return value.detach(), dict(zip(leaves, torch.autograd.grad(value, tuple(leaves.values())), strict=True))


def gap(case):
    """The largest error of value and gradient over all members, against the largest entry of each."""
    arch, loss, theta, x, y = case.make()
    value, grad = gradient(loss, theta, x, y)
    assert value.shape == (() if case.members is None else (case.members,)) and value.dtype == case.dtype
    assert list(grad) == list(theta) and all(grad[k].shape == v.shape for k, v in theta.items())
    assert all(torch.allclose(a, b, rtol=TOLERANCE[case.dtype]) for a, b in [(loss(theta, x, y), value)])
    errors = []
    for i in range(case.members or 1):
        one, own = alone(case, arch, theta, x, y, i)
        pick = (lambda v: v) if case.members is None else (lambda v, i=i: v[i])
        errors.append(float((pick(value) - one).abs() / one.abs()))
        errors += [float((pick(grad[k]) - own[k]).abs().max() / own[k].abs().max().clamp(min=1e-3)) for k in own]
    return max(errors)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_value_and_gradient_are_those_of_autograd(activation, kind, bias, depth):
    for own_x, own_y, members, dtype in product((False, True), (False, True), (None, 1, 3), TOLERANCE):
        case = Case(activation, kind, depth, bias, members, own_x, own_y, dtype)
        assert gap(case) <= TOLERANCE[dtype], case


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    case=st.builds(
        Case,
        activation=st.sampled_from(ACTIVATIONS),
        kind=st.sampled_from(KINDS),
        depth=st.integers(1, 4),
        bias=st.booleans(),
        members=st.sampled_from([None, 1, 2, 5]),
        own_x=st.booleans(),
        own_y=st.booleans(),
        dtype=st.sampled_from(sorted(TOLERANCE, key=str)),
        seed=st.integers(0, 10_000),
    )
)
def test_at_random_points(case):
    assert gap(case) <= TOLERANCE[case.dtype]


@pytest.mark.parametrize("kind", KINDS)
def test_members_in_tiles_are_the_same_members(kind, monkeypatch):
    for own_x, own_y, members in product((False, True), (False, True), (1, 3, 5)):
        case = Case("tanh", kind, 3, members=members, own_x=own_x, own_y=own_y)
        monkeypatch.setattr(layers, "TILE", 2 * 6 * 9)  # two members
        assert gap(case) <= TOLERANCE[F64]


# mistakes that the comparison must see


def unscaled(out, target):
    away = out - target
    return away.square().sum(dim=(-2, -1)) / (2 * out.shape[-1]), lambda: away


def first_member_only(out, labels):
    value, derivative = layers._cross_entropy(out, labels)
    return value, lambda: derivative()[:1].expand_as(out)


def no_indicator(out, labels):
    value, _ = layers._cross_entropy(out, labels)
    return value, lambda: out.softmax(dim=1) / out.shape[-1]


def before_the_activation(name):
    return {**layers._ACTIVATIONS, name: (layers._ACTIVATIONS[name][0], lambda delta, h: delta)}


def wrong_outer(delta, h):
    return (delta.cumsum(0) if delta.shape[0] > 1 else 2 * delta) @ h.mT


MISTAKES = {
    "mse not divided by the samples": (Case(), "_LOSSES", {**layers._LOSSES, "mse": unscaled}),
    "the first member's labels for all": (
        Case(kind="cross-entropy", own_y=True),
        "_LOSSES",
        {**layers._LOSSES, "cross-entropy": first_member_only},
    ),
    "no indicator of the label": (
        Case(kind="cross-entropy"),
        "_LOSSES",
        {**layers._LOSSES, "cross-entropy": no_indicator},
    ),
    **{
        f"no derivative of {name}": (Case(name), "_ACTIVATIONS", before_the_activation(name))
        for name in ACTIVATIONS[1:]
    },
    "the derivative of another activation": (
        Case("tanh"),
        "_ACTIVATIONS",
        {**layers._ACTIVATIONS, "tanh": (torch.tanh_, layers._ACTIVATIONS["sigmoid"][1])},
    ),
    "members that mix": (Case(), "_outer", wrong_outer),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_backward_pass_is_seen(mistake, monkeypatch):
    case, name, wrong = MISTAKES[mistake]
    assert gap(case) <= TOLERANCE[F64]
    monkeypatch.setattr(layers, name, wrong)
    assert gap(case) >= 1e-2


# what else it promises


def test_relu_has_no_slope_at_its_kink_as_in_pytorch():
    theta = {"W1": torch.zeros(2, 1, dtype=F64), "W2": torch.ones(1, 2, dtype=F64)}
    x, y = torch.ones(1, 3, dtype=F64), torch.ones(1, 3, dtype=F64)
    grad = gradient(LayeredLoss("relu"), theta, x, y)[1]
    assert torch.equal(grad["W1"], torch.zeros(2, 1, dtype=F64))
    assert bool(gradient(LayeredLoss("linear"), theta, x, y)[1]["W1"].all())  # control: a linear unit has one


@pytest.mark.parametrize("members", [None, 3])
@pytest.mark.parametrize("own_x", [True, False])
def test_the_output_is_that_of_the_network(members, own_x):
    arch, loss, theta, x, _ = Case("tanh", depth=3, members=members, own_x=own_x).make()
    assert torch.allclose(loss.output(theta, x), arch(theta, x), rtol=1e-13, atol=1e-14)
    assert not torch.allclose(loss.output(theta, 2 * x), arch(theta, x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_arguments_are_left_alone_and_nothing_of_them_is_kept(activation, kind):
    for depth, members in product((1, 3), (None, 3)):
        _, loss, theta, x, y = Case(activation, kind, depth, members=members, own_x=True).make()
        copies = [v.clone() for v in (*theta.values(), x, y)]
        value, grad = loss.gradient(theta, x, y)
        loss(theta, x, y), loss.output(theta, x)
        assert all(torch.equal(a, b) for a, b in zip((*theta.values(), x, y), copies, strict=True))
        places = {v.untyped_storage().data_ptr() for v in (*theta.values(), x, y)}
        assert not places & {v.untyped_storage().data_ptr() for v in (value, *grad.values())}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_value_can_be_differentiated_again(activation, kind):
    """For sharpness and Hessians: autograd through the value, and a derivative of the gradient along a direction."""
    _, loss, theta, x, y = Case(activation, kind, 3).make()
    leaves = {k: v.clone().requires_grad_() for k, v in theta.items()}
    grads = torch.autograd.grad(loss(leaves, x, y).sum(), tuple(leaves.values()), create_graph=True)
    own = loss.gradient(theta, x, y)[1]
    assert all(torch.allclose(g, own[k], rtol=1e-12, atol=1e-14) for g, k in zip(grads, leaves, strict=True))
    gen = torch.Generator().manual_seed(1)
    along = {k: torch.randn(v.shape, generator=gen, dtype=F64) for k, v in theta.items()}
    inner = sum((g * along[k]).sum() for g, k in zip(grads, leaves, strict=True))
    twice = torch.autograd.grad(inner, tuple(leaves.values()))
    forward = torch.func.jvp(lambda t: loss.gradient(t, x, y)[1], (theta,), (along,))[1]
    assert all(torch.allclose(forward[k], h, rtol=1e-10, atol=1e-12) for k, h in zip(leaves, twice, strict=True))


def test_a_run_takes_the_written_gradient(monkeypatch):
    _, loss, theta, x, y = Case().make()
    monkeypatch.setattr(LayeredLoss, "__call__", None)  # autograd would need it
    run = descend(loss, theta, steps=2, lr=0.1, batches=iter([(x, y)] * 3))
    one = loss.gradient(member(theta, 1), x, y)[1]
    step = descend(loss, theta, steps=1, lr=0.1, batches=iter([(x, y)] * 2)).theta
    assert torch.allclose(step["W1"][1], theta["W1"][1] - 0.1 * one["W1"], rtol=1e-13)
    assert bool((run.log["loss"].diff() < 0).all())


# bad input


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown activation of a layered loss 'gelu'; known are linear, relu"):
        LayeredLoss("gelu")
    with pytest.raises(ValueError, match="unknown loss 'hinge'; known are mse, cross-entropy"):
        LayeredLoss("relu", "hinge")


def W(*shape):
    return torch.ones(shape, dtype=F64)


BAD = {
    "no W1": ({"W2": W(2, 3)}, W(3, 5), "wanted W1, b1"),
    "nothing": ({}, W(3, 5), "wanted W1, b1"),
    "a gap": ({"W1": W(2, 3), "W3": W(2, 2)}, W(3, 5), "wanted W1, b1"),
    "another name": ({"W1": W(2, 3), "scale": W(1, 1)}, W(3, 5), "wanted W1, b1"),
    "a bias without weights": ({"W1": W(2, 3), "b2": W(2, 1)}, W(3, 5), "wanted W1, b1"),
    "a flat bias": ({"W1": W(2, 3), "b1": W(2)}, W(3, 5), "wanted W1, b1"),
    "two member axes": ({"W1": W(4, 4, 2, 3)}, W(3, 5), "wanted W1, b1"),
    "members in one only": ({"W1": W(4, 2, 3), "b1": W(2, 1)}, W(3, 5), "wanted W1, b1"),
    "other members": ({"W1": W(4, 2, 3), "b1": W(1, 2, 1)}, W(3, 5), "wanted W1, b1"),
    "members in the inputs only": ({"W1": W(2, 3)}, W(4, 3, 5), r"wanted inputs .*\(4, 3, 5\)"),
    "inputs of other members": ({"W1": W(1, 2, 3)}, W(4, 3, 5), r"wanted inputs .*\(4, 3, 5\)"),
    "one input": ({"W1": W(2, 3)}, W(3), r"wanted inputs .*\(3,\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_such_network_is_refused(name):
    theta, x, message = BAD[name]
    loss = LayeredLoss("relu")
    for call in (loss, loss.gradient):
        with pytest.raises(ValueError, match=message):
            call(theta, x, W(2, 5))
    with pytest.raises(ValueError, match=message):
        loss.output(theta, x)


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [("mse", W(5), "do not fit"), ("mse", W(2, 1), "do not fit"), ("mse", W(3, 2, 5), "do not fit"),
     ("cross-entropy", torch.zeros(4, dtype=torch.long), r"n whole numbers as labels, .*\(4,\)"),
     ("cross-entropy", torch.zeros(5), "n whole numbers as labels"),
     ("cross-entropy", torch.zeros(3, 5, dtype=torch.long), r"n whole numbers as labels, .*\(3, 5\)"),
     ("cross-entropy", torch.tensor([0, 1, 0, 1, 2]), r"labels should be in 0\.\.1")],
)  # fmt: skip
def test_targets_that_do_not_fit_are_refused(kind, y, message):
    with pytest.raises(ValueError, match=f"layered loss: .*{message}"):
        LayeredLoss("relu", kind).gradient({"W1": W(4, 2, 3)}, W(3, 5), y)
