"""Training does what it says: ensembles are independent networks, steps are PyTorch's, flow is the exact solution.

Also that a divergence says when and who and keeps the records, that bad settings are refused, and that a seed decides
every bit.
"""

import importlib.util
import math
from itertools import islice

import numpy as np
import pytest
import torch

from symlib import checks, conserved, data, dynamics
from symlib.architectures import CATALOGUE, mlp
from symlib.dynamics import Divergence, cross_entropy, descend, flow, gradient, member, mse

F64 = torch.float64
TANH = mlp((3, 5, 2), "tanh")
VMAPPED = ["attention head", "multi-head attention", "convolutional relu block"]


def regression(arch, generator, samples=24):
    """Inputs and targets, and the loss of an architecture on a batch of them."""
    x = torch.randn(arch.inputs[0], samples, generator=generator, dtype=F64)
    y = torch.randn(arch.shapes[next(reversed(arch.shapes))][0], samples, generator=generator, dtype=F64)
    return x, y, lambda theta, x, y: mse(arch(theta, x), y)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def largest_gap(a, b):
    return max(float((a[k] - b[k]).abs().max()) for k in b)


def quadratic(theta):
    """Half of 2 |w|^2: gradient flow is w(t) = w(0) exp(-2 t)."""
    return theta["w"].square().sum(dim=-1)


def explosive(theta):
    """-w^4: gradient flow w' = 4 w^3 from w = 1 ends at t = 1/8."""
    return -theta["w"].pow(4).sum(dim=-1)


# gradients and ensembles


def test_the_gradient_of_an_ensemble_is_each_members_own(gen):
    x, y, loss = regression(TANH, gen)
    theta = TANH.init(gen, members=4)
    value, grad = gradient(loss, theta, x, y)
    assert value.shape == (4,)
    for i in range(4):
        one, own = gradient(loss, member(theta, i), x, y)
        assert abs(one - value[i]) <= 1e-14
        assert largest_gap(member(grad, i), own) <= 1e-14


@pytest.mark.parametrize("name", VMAPPED)
def test_over_members_serves_where_broadcasting_does_not(name, gen):
    arch = CATALOGUE[name]
    x = checks.inputs(arch, gen, F64, 1.0, samples=5)
    theta = arch.init(gen, members=3)
    together = dynamics.over_members(arch)(theta, x)
    grad = gradient(lambda t: dynamics.over_members(arch)(t, x).square().flatten(1).sum(dim=1), theta)[1]
    for i in range(3):
        assert torch.allclose(together[i], arch(member(theta, i), x), rtol=1e-13, atol=1e-13)
        own = gradient(lambda t: arch(t, x).square().sum(), member(theta, i))[1]
        scale = max(float(g.abs().max()) for g in own.values())
        assert largest_gap(member(grad, i), own) <= 1e-13 * scale


def test_a_loss_that_is_not_one_number_per_member_is_refused(gen):
    with pytest.raises(ValueError, match=r"one number per member, got shape \(2, 24\)"):
        gradient(lambda t, x: TANH(t, x), TANH.init(gen), torch.ones(3, 24, dtype=F64))


def test_losses_are_pytorchs(gen):
    logits, labels = torch.randn(4, 3, 9, generator=gen, dtype=F64), torch.randint(3, (9,), generator=gen)
    target = torch.randn(3, 9, generator=gen, dtype=F64)
    for i in range(4):
        oracle = torch.nn.functional.cross_entropy(logits[i].T, labels)
        assert torch.allclose(cross_entropy(logits, labels)[i], oracle, rtol=1e-14)
        oracle = 3 * torch.nn.functional.mse_loss(logits[i], target) / 2
        assert torch.allclose(mse(logits, target)[i], oracle, rtol=1e-14)
        oracle = sum(int(logits[i, :, j].argmax()) == int(labels[j]) for j in range(9)) / 9
        assert dynamics.accuracy(logits, labels)[i] == oracle


def unchecked():
    """symlib.dynamics.losses as a user has them: without the shape checks of the tests, which would speak first."""
    spec = importlib.util.spec_from_file_location("unchecked_losses", dynamics.losses.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLAIN = unchecked()
BAD_LABELS = {
    "too few": (torch.zeros(8, dtype=torch.long), r"\(4, 3, 9\) and torch.int64 \(8,\)"),
    "one for all": (torch.zeros(1, dtype=torch.long), r"torch.int64 \(1,\)"),
    "a scalar": (torch.tensor(0), r"torch.int64 \(\)"),
    "of other members": (torch.zeros(3, 9, dtype=torch.long), r"torch.int64 \(3, 9\)"),
    "real": (torch.zeros(9), r"torch.float32 \(9,\)"),
    "bool": (torch.zeros(9, dtype=torch.bool), r"torch.bool \(9,\)"),
    "too large": (torch.tensor([0] * 8 + [3]), r"labels should be in 0\.\.2, got 0\.\.3"),
    "negative": (torch.tensor([2] * 8 + [-1]), r"labels should be in 0\.\.2, got -1\.\.2"),
}


@pytest.mark.parametrize("name", ["cross_entropy", "accuracy"])
@pytest.mark.parametrize("kind", BAD_LABELS)
def test_bad_labels_are_refused(name, kind):
    labels, message = BAD_LABELS[kind]
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        getattr(PLAIN, name)(torch.zeros(4, 3, 9), labels)
    with pytest.raises(ValueError, match=f"{name}: logits"):
        getattr(PLAIN, name)(torch.zeros(9), torch.zeros(9, dtype=torch.long))


def test_labels_may_be_of_any_whole_dtype_and_under_vmap(gen):
    logits, labels = torch.randn(4, 3, 9, generator=gen, dtype=F64), torch.randint(3, (9,), generator=gen)
    for fn in (cross_entropy, dynamics.accuracy):
        assert torch.equal(fn(logits, labels.to(torch.int16)), fn(logits, labels))
        assert torch.allclose(torch.func.vmap(fn, in_dims=(0, None))(logits, labels), fn(logits, labels), rtol=1e-14)
        each = torch.func.vmap(fn)(logits, labels.expand(4, 9))  # here the range is not checked
        assert torch.allclose(each, fn(logits, labels), rtol=1e-14)


@pytest.mark.parametrize(
    ("prediction", "target"),
    [((2, 9), (9,)), ((2, 9), (1, 9)), ((2, 9), (2, 1)), ((1, 9), (2, 9)), ((2, 9), (4, 2, 9)), ((4, 2, 9), (3, 2, 9)),
     ((4, 2, 9), (1, 2, 9)), ((9,), (9,)), ((2, 9), ())],
)  # fmt: skip
def test_targets_that_only_broadcast_are_refused(prediction, target):
    with pytest.raises(ValueError) as error:
        PLAIN.mse(torch.zeros(prediction), torch.zeros(target))
    assert str(error.value) == f"mse: prediction {prediction} and target {target} do not fit"


def test_a_target_may_carry_the_member_axes(gen):
    prediction, target = torch.randn(2, 4, 3, 9, generator=gen, dtype=F64)
    each = mse(prediction, target)
    assert torch.equal(each, torch.stack([mse(p, t) for p, t in zip(prediction, target, strict=True)]))


# gradient descent


@pytest.mark.parametrize(
    ("momentum", "decay", "size"), [(0.0, 0.0, None), (0.9, 0.0, None), (0.0, 0.03, 8), (0.8, 0.01, 7)]
)
def test_descend_is_torch_sgd(momentum, decay, size, gen):
    """50 steps against a hand-written torch.optim.SGD loop with the same batches."""
    x, y, loss = regression(TANH, gen)
    start = TANH.init(gen)

    def stream():
        seeded = torch.Generator().manual_seed(3)
        return data.minibatches(x, y, size or x.shape[1], seeded)

    run = descend(loss, start, steps=50, lr=0.1, momentum=momentum, decay=decay, batches=stream())
    leaves = {k: v.clone().requires_grad_() for k, v in start.items()}
    optimizer = torch.optim.SGD(leaves.values(), lr=0.1, momentum=momentum, weight_decay=decay)
    losses = []
    for batch in islice(stream(), 50):
        optimizer.zero_grad()
        value = loss(leaves, *batch)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert largest_gap(run.theta, {k: v.detach() for k, v in leaves.items()}) <= 1e-12
    assert torch.allclose(run.log["loss"][:-1], torch.tensor(losses, dtype=F64), rtol=1e-12)


def test_an_ensemble_is_its_members_trained_alone(gen):
    x, y, loss = regression(TANH, gen)
    start = TANH.init(gen, members=3)
    together = descend(lambda t: loss(t, x, y), start, steps=50, lr=0.1, momentum=0.9)
    flowed = flow(lambda t: loss(t, x, y), start, times=[0.5, 1.0])
    for i in range(3):
        alone = descend(lambda t: loss(t, x, y), member(start, i), steps=50, lr=0.1, momentum=0.9)
        assert largest_gap(member(together.theta, i), alone.theta) <= 1e-12
        assert torch.allclose(together.log["loss"][i], alone.log["loss"], rtol=1e-12)
        alone = flow(lambda t: loss(t, x, y), member(start, i), times=[0.5, 1.0])
        assert largest_gap(member(flowed.theta, i), alone.theta) <= 1e-8


def test_weight_decay_alone_follows_its_two_term_recursion():
    """v+ = beta v + wd S, S+ = S - lr v+, the sum of softmax weights; 100 steps, beta 0.9, lr 0.1, wd 0.05.

    The value after 10 steps is that of the exact recursion for the translation charge (Kunin et al., arXiv 2012.04728,
    section 5, discrete in time), 0.8019718375462528.
    """
    start = {"w": torch.ones(1, dtype=F64)}
    run = descend(
        lambda t: 0 * t["w"].sum(),
        start,
        steps=100,
        lr=0.1,
        momentum=0.9,
        decay=0.05,
        record={"S": lambda t: t["w"][0]},
    )
    S, v, oracle = 1.0, 0.0, [1.0]
    for _ in range(100):
        v = 0.9 * v + 0.05 * S
        S -= 0.1 * v
        oracle.append(S)
    assert torch.allclose(run.log["S"], torch.tensor(oracle, dtype=F64), rtol=0, atol=1e-14)
    assert abs(run.log["S"][10] - 0.8019718375462528) <= 1e-12


@pytest.mark.parametrize(("lr", "monotone"), [(0.01, True), (0.02, False), (0.025, None)])
def test_the_two_parameter_saddle(lr, monotone):
    """(ab - 2)^2 from (1, 9): sharpness 160.2 at the minimum of gradient flow, so lr < 2 / 160.2 = 0.0125 is stable.

    lr 0.01 goes down at every step, 0.02 jumps to a flatter minimum, 0.025 diverges (README of
    SalmanAlsubaihi/weight-space-symmetry-and-training; bound 2 / (2 sqrt(80^2 + 16))).
    """
    start = {"a": torch.tensor([1.0], dtype=F64), "b": torch.tensor([9.0], dtype=F64)}
    charge = lambda t: t["b"].square() - t["a"].square()  # noqa: E731
    train = lambda: descend(  # noqa: E731
        lambda t: (t["a"] * t["b"] - 2).square(), start, steps=2000, lr=lr, record={"q": charge}
    )
    if monotone is None:  # 1e17 after 2000 steps or past the range of float64: chaotic, so either is a divergence
        try:
            assert float(train().log["loss"].max()) > 1e6
        except Divergence as error:
            assert error.members == [0]
        return
    run = train()
    assert float(run.log["loss"][0, -1]) < 1e-20
    assert bool((run.log["loss"].diff() <= 1e-20).all()) == monotone
    assert float(run.log["q"][0, -1].abs()) < 80.0 == float(run.log["q"][0, 0])
    assert (float(run.theta["a"]) > 0) == monotone


# gradient flow


def test_flow_is_exponential_decay_on_a_quadratic():
    times = torch.tensor([0.0, 0.3, 1.0, 4.0], dtype=F64)
    start = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=F64)
    run = flow(quadratic, {"w": start}, times=times, record={"w": lambda t: t["w"]})
    exact = start[:, None] * torch.exp(-2 * times)[None, :, None]
    assert torch.equal(run.steps, times)
    assert torch.allclose(run.log["w"], exact, rtol=1e-8, atol=1e-11)
    assert torch.allclose(run.log["loss"], exact.square().sum(dim=-1), rtol=1e-8, atol=1e-11)


def test_flow_of_a_scalar_deep_linear_network():
    """loss = (s - ab)^2 / 2 with a = b = sqrt(u): u' = 2 u (s - u), the logistic curve.

    Source: Saxe, McClelland, Ganguli, arXiv 1312.6120, eq. 7 (tau = 1).
    """
    s, u0 = 3.0, 0.01
    times = torch.linspace(0, 2, 9, dtype=F64)
    start = {k: torch.tensor(math.sqrt(u0), dtype=F64) for k in "ab"}
    run = flow(
        lambda t: (s - t["a"] * t["b"]).square() / 2, start, times=times, record={"u": lambda t: t["a"] * t["b"]}
    )
    e = torch.exp(2 * s * times)
    assert run.log["u"].shape == (9,)
    assert torch.allclose(run.log["u"], s * e / (e - 1 + s / u0), rtol=1e-7, atol=0)


@pytest.mark.parametrize(("kind", "seed"), [("linear", 0), ("relu", 1), ("relu", 2)])
def test_flow_keeps_the_charges(kind, seed):
    """W1 W1^T - W2^T W2 of linear networks (Arora et al., arXiv 1802.06509), its diagonal for ReLU.

    The second is Du, Hu, Lee, arXiv 1806.00900, theorem 2.1.  One ReLU run crosses kinks; none slides along one.
    """
    gen = torch.Generator().manual_seed(seed)
    arch = mlp((3, 4, 2), kind, bias=False)
    x, y, loss = regression(arch, gen, samples=4)
    start = arch.init(gen)

    def balance(theta):
        D = theta["W1"] @ theta["W1"].mT - theta["W2"].mT @ theta["W2"]
        return D if kind == "linear" else D.diagonal(dim1=-2, dim2=-1)

    run = flow(lambda t: loss(t, x, y), start, times=[0.0, 1.0, 3.0], record={"D": balance})
    assert float((run.log["D"] - run.log["D"][0]).abs().max()) <= 1e-7
    assert float(run.log["loss"][-1]) < 0.9 * float(run.log["loss"][0])
    moved = descend(lambda t: loss(t, x, y), start, steps=30, lr=0.1, record={"D": balance})
    assert float((moved.log["D"] - moved.log["D"][0]).abs().max()) >= 1e-4  # control: large steps do not keep it


def test_flow_works_in_float64_whatever_the_start_has():
    run = flow(quadratic, {"w": torch.ones(2, dtype=torch.float32, requires_grad=True)}, times=[1.0])
    assert run.theta["w"].dtype == F64
    assert abs(float(run.theta["w"][0]) - math.exp(-2)) <= 1e-8


# records


@pytest.mark.parametrize(("steps", "every", "recorded"), [(10, 4, [0, 4, 8, 10]), (6, 3, [0, 3, 6]), (3, 50, [0, 3])])
def test_start_and_end_and_every_k_steps_are_recorded(steps, every, recorded, gen):
    x, y, loss = regression(TANH, gen)
    record = {"W1": lambda t: t["W1"], "norm": lambda t: t["W2"].norm(dim=(-2, -1))}
    for members in (None, 3):
        lead = () if members is None else (members,)
        start = TANH.init(gen, members=members)
        before = {k: v.clone() for k, v in start.items()}
        run = descend(lambda t: loss(t, x, y), start, steps=steps, lr=0.1, every=every, record=record)
        k = len(recorded)
        assert run.steps.tolist() == recorded and run.lr == 0.1
        assert {n: tuple(v.shape) for n, v in run.log.items()} == {
            "loss": (*lead, k),
            "W1": (*lead, k, 5, 3),
            "norm": (*lead, k),
        }
        first, last = (run.log["W1"].select(len(lead), i) for i in (0, -1))
        assert torch.equal(first, start["W1"]) and torch.equal(last, run.theta["W1"])
        assert torch.equal(loss(run.theta, x, y), run.log["loss"][..., -1])
        assert same(start, before)  # the argument is left alone


def test_a_run_does_not_carry_a_graph(gen):
    x, y, loss = regression(TANH, gen)
    start = {k: v.requires_grad_() for k, v in TANH.init(gen).items()}
    run = descend(lambda t: loss(t, x, y), start, steps=2, lr=0.1, record={"W": lambda t: t["W1"]})
    assert not any(v.requires_grad for v in (*run.theta.values(), *run.log.values()))


# divergence


def test_descend_names_the_step_and_the_members_that_diverge():
    start = {"w": torch.tensor([[0.1], [1.0], [0.2], [3.0]], dtype=F64)}
    with pytest.raises(Divergence, match=r"diverged at step \d+: NaN or inf in members \[3\]") as caught:
        descend(explosive, start, steps=100, lr=0.1, every=2, record={"w": lambda t: t["w"][:, 0]})
    error = caught.value
    assert error.members == [3] and 2 < error.step < 100
    assert error.run.steps.tolist() == list(range(0, int(error.step), 2))
    assert error.run.log["w"].shape == error.run.log["loss"].shape == (4, len(error.run.steps))
    assert bool(torch.isfinite(error.run.log["loss"]).all())
    assert not math.isfinite(float(explosive(error.run.theta)[3]))
    assert torch.equal(error.run.log["w"][:, 0], start["w"][:, 0]) and error.run.lr == 0.1


def test_descend_of_one_network_says_so():
    with pytest.raises(Divergence, match="in the network") as caught:
        descend(explosive, {"w": torch.ones(1, dtype=F64)}, steps=100, lr=0.1)
    assert caught.value.members == []


def test_flow_names_the_time_and_the_members_that_blow_up():
    start = {"w": torch.tensor([[0.1], [1.0], [0.5]], dtype=F64)}
    with pytest.raises(Divergence, match=r"members \[1\]") as caught:
        flow(explosive, start, times=[0.0, 0.05, 0.1, 0.2, 0.3])
    error = caught.value
    assert error.members == [1] and abs(error.step - 1 / 8) <= 1e-6
    assert error.run.steps.tolist() == [0.0, 0.05, 0.1] and error.run.log["loss"].shape == (3, 3)
    assert error.run.theta["w"].shape == (3, 1)
    with pytest.raises(Divergence, match="the network"):
        flow(explosive, {"w": torch.ones(1, dtype=F64)}, times=[1.0])


def test_a_flow_that_slides_along_a_kink_ends_with_an_error():
    """|w| from 0.3: both sides of 0 push back, w stays at 0 and no step is small enough.  ReLU networks do this too."""
    with pytest.raises(Divergence, match="no arrival after 200 steps") as caught:
        flow(lambda t: t["w"].abs().sum(), {"w": torch.tensor([0.3], dtype=F64)}, times=[0.2, 1.0], max_steps=200)
    assert abs(caught.value.step - 0.3) <= 1e-3 and caught.value.run.steps.tolist() == [0.2]


def test_a_gradient_that_is_not_finite_at_the_start_ends_a_flow_at_once():
    """The square root has no gradient at 0; the integrator would search for a first step for ever."""
    start = {"w": torch.tensor([[1.0], [0.0]], dtype=F64)}
    with pytest.raises(Divergence, match=r"step 0: .* members \[1\]"):
        flow(lambda t: t["w"].abs().sqrt().sum(dim=-1), start, times=[0.1])


def test_a_loss_that_is_nan_at_the_start_is_a_divergence_at_step_0():
    nan = lambda t: torch.log(-t["w"].square()).sum(dim=-1)  # noqa: E731
    for train in (lambda: descend(nan, START, steps=1, lr=0.1), lambda: flow(nan, START, times=[0.0, 1.0])):
        with pytest.raises(Divergence, match="step 0") as caught:
            train()
        assert caught.value.run.log == {} and "w" in caught.value.run.theta


# bad settings

START = {"w": torch.ones(2, dtype=F64)}
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "bad",
    [
        *({"lr": v} for v in (0.0, -0.1, NAN, INF)),
        *({"momentum": v} for v in (-0.1, 1.0, 1.5, NAN)),
        *({"decay": v} for v in (-0.1, NAN, INF)),
        *({k: v} for k in ("lr", "momentum", "decay") for v in ("0.1", True, None, 1j, torch.ones(2))),
        *({"steps": v} for v in (0, -1, 2.5, True)),
        *({"every": v} for v in (0, -1, 1.0)),
    ],
)
def test_descend_refuses_bad_settings(bad):
    name = next(iter(bad))
    with pytest.raises(ValueError, match=name):
        descend(quadratic, START, **{"steps": 2, "lr": 0.1, **bad})


@pytest.mark.parametrize(
    "times", [[], [1.0, 0.5], [0.0, 0.0], [-1.0, 1.0], [NAN], [0.0, NAN], [1.0, INF], 1.0, [[1.0]]]
)
def test_flow_refuses_times_that_do_not_increase(times):
    with pytest.raises(ValueError, match="times should be finite and increase"):
        flow(quadratic, START, times=times)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_start_that_is_not_finite_is_refused(value):
    start = {"w": torch.tensor([1.0, value], dtype=F64)}
    for train in (lambda: descend(quadratic, start, steps=1, lr=0.1), lambda: flow(quadratic, start, times=[1.0])):
        with pytest.raises(ValueError, match=r"start: w holds 1 NaN or inf, the first at index \(1,\)"):
            train()


def test_a_start_without_real_parameters_is_refused():
    starts = {
        "wanted at least one parameter, got none": {},
        "w should be a tensor of floating-point numbers, got torch.int64": {"w": torch.ones(2, dtype=torch.long)},
        "w should be a tensor of floating-point numbers, got list": {"w": [1.0]},
    }
    for message, start in starts.items():
        for train in (lambda s: descend(quadratic, s, steps=1, lr=0.1), lambda s: flow(quadratic, s, times=[1.0])):
            with pytest.raises(ValueError, match=f"start: {message}"):
                train(start)


def test_a_loss_that_is_no_tensor_is_refused():
    loss = lambda t: float(t["w"].detach().sum())  # noqa: E731
    for train in (lambda: descend(loss, START, steps=1, lr=0.1), lambda: flow(loss, START, times=[0.0, 1.0])):
        with pytest.raises(ValueError, match=r"the loss should be a tensor of one number per member, got 2\.0"):
            train()


def test_a_record_does_not_replace_the_loss():
    record = {"loss": lambda t: t["w"]}
    for train in (
        lambda: descend(quadratic, START, steps=1, lr=0.1, record=record),
        lambda: flow(quadratic, START, times=[1.0], record=record),
    ):
        with pytest.raises(ValueError, match="record: the name 'loss' is taken"):
            train()


@pytest.mark.parametrize(
    "bad",
    [
        *({k: v} for k in ("rtol", "atol") for v in (0.0, -1e-9, NAN, INF, "1e-9", None)),
        *({"max_steps": v} for v in (0, -1, 2.5, None)),
    ],
)
def test_flow_refuses_bad_settings(bad):
    with pytest.raises(ValueError, match=f"flow: .*{next(iter(bad))}"):
        flow(quadratic, START, times=[1.0], **bad)


def test_settings_may_be_numbers_of_numpy():
    plain = descend(quadratic, START, steps=3, lr=0.1, momentum=0.5, every=2)
    other = descend(
        quadratic, START, steps=np.int64(3), lr=np.float64(0.1), momentum=np.float64(0.5), every=np.int64(2)
    )
    assert same(plain.theta, other.theta) and torch.equal(plain.steps, other.steps)


@pytest.mark.parametrize("batches", [[()] * 3, (), ((), ()), START["w"]])
def test_batches_are_an_iterator(batches):
    with pytest.raises(ValueError, match=f"batches should be an iterator of tuples, got {type(batches).__name__}"):
        descend(quadratic, START, steps=1, lr=0.1, batches=batches)


@pytest.mark.parametrize("value", [NAN, INF])
def test_bad_data_are_no_divergence(value):
    good = (torch.ones(2, dtype=F64), torch.zeros(2, dtype=torch.long))
    bad = (torch.tensor([1.0, value], dtype=F64), good[1])
    with pytest.raises(ValueError, match="bad data at step 2: part 0 of the batch holds 1 NaN or inf"):
        loss = lambda t, x, y: (t["w"] * x).square().sum()  # noqa: E731
        descend(loss, START, steps=5, lr=0.1, batches=iter([good, good, bad, good, good, good]))


def test_batches_that_end_too_early_are_refused():
    batches = iter([()] * 3)
    with pytest.raises(ValueError, match="ended at step 3, wanted 6"):
        descend(quadratic, START, steps=5, lr=0.1, batches=batches)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert dynamics.device().type == dynamics.device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="no CUDA device; take 'cpu' or 'auto'"):
        dynamics.device("cuda")
    with pytest.raises(ValueError, match="unknown device 'tpu'; known are auto, cpu, cuda"):
        dynamics.device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert dynamics.device().type == dynamics.device("cuda").type == "cuda"


# randomness


def everything_random(seed):
    """Data, initial parameters, training, checks and charges from one seed."""
    generator = torch.Generator().manual_seed(seed)
    arch = mlp((4, 6, 2), "relu", bias=False)
    task = data.teacher_student(lambda x: x[:2].sin(), 4, generator, train=32, test=8, noise=0.1)
    mixture = data.gaussian_mixture(3, 4, generator, train=20, test=5)
    digits = data.digits(generator)
    batches = data.minibatches(task.x_train, task.y_train, 8, generator)
    sym = arch.symmetries()["rescaling h1"]
    loss = lambda t, x, y: mse(arch(t, x), y)  # noqa: E731
    run = descend(loss, arch.init(generator, members=3), steps=20, lr=0.1, momentum=0.9, batches=batches)
    laws = checks.law_errors(arch, sym, generator=generator, draws=1)
    charges = [q.value(run.theta) for q in conserved.charges(sym)]
    return [
        *run.theta.values(),
        run.log["loss"],
        mixture.x_train,
        digits.x_test,
        *charges,
        *map(torch.tensor, laws.values()),
    ]


def test_a_seed_decides_every_bit_and_global_state_is_left_alone():
    before = torch.random.get_rng_state()
    first = everything_random(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)  # nothing reads the global state either
    second, other = everything_random(5), everything_random(6)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])
