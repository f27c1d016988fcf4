"""An ensemble is its members, each trained alone: per-member rates, anchors, starts, targets and data orders.

Also the methods against PyTorch's or by hand, early stop of single members, and that a run is a function of values.
"""

import itertools
import math

import pytest
import torch

from symlib import data, dynamics
from symlib.architectures import mlp
from symlib.dynamics import Divergence, LayeredLoss, cross_entropy, descend, member

F64 = torch.float64
K, STEPS = 4, 100
ARCH = mlp((3, 8, 2), "tanh")
LOSS = LayeredLoss("tanh")
RATES = {
    "lr": torch.tensor([0.3, 0.1, 0.03, 0.2], dtype=F64),
    "momentum": torch.tensor([0.0, 0.9, 0.5, 0.8], dtype=F64),
    "decay": torch.tensor([0.0, 0.01, 0.1, 0.001], dtype=F64),
}
SCALES = torch.tensor([0.3, 1.0, 2.0, 1.0], dtype=F64)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def task(seed=0, samples=24):
    """Starts of different scales, an anchor, shared inputs and a target for each member."""
    gen = seeded(seed)
    start = {k: SCALES.reshape(K, 1, 1) * v for k, v in ARCH.init(gen, members=K).items()}
    x = torch.randn(3, samples, generator=gen, dtype=F64)
    y = torch.randn(K, 2, samples, generator=gen, dtype=F64)
    return start, ARCH.init(gen, members=K), x, y


def settings(method):
    """The rates of a method: those of Adam and sign descent are smaller, and they have no momentum."""
    if method in ("sgd", "momentum"):
        return {k: v for k, v in RATES.items() if k != "momentum" or method == "momentum"} | {"method": "sgd"}
    return {"lr": RATES["lr"] / 10, "decay": RATES["decay"], "method": method}


def pick(values, i):
    return {k: v[i] if isinstance(v, torch.Tensor) else v for k, v in values.items()}


def gap(together, alone, i):
    """The largest distance of member i from the network that was trained alone, in parameters and losses."""
    ours = [together.theta[k][i] - v for k, v in alone.theta.items()] + [together.log["loss"][i] - alone.log["loss"]]
    return max(float(d.abs().max()) for d in ours)


# members


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("method", ["sgd", "momentum", "adam", "sign"])
def test_a_member_is_the_network_trained_alone(method, anchored):
    """Own step size, momentum, decay, anchor, scale of the start, target and data order: 1e-12 over 100 steps."""
    start, anchor, x, y = task()
    rates, size, n = settings(method), 6, x.shape[1]
    orders = [list(itertools.islice(data.minibatches(x, y[i], size, seeded(10 + i)), STEPS + 1)) for i in range(K)]
    batches = [tuple(torch.stack(parts) for parts in zip(*step, strict=True)) for step in zip(*orders, strict=True)]
    pulls = {"anchor": anchor} if anchored else {}
    together = descend(LOSS, start, steps=STEPS, batches=iter(batches), **rates, **pulls)
    gaps = torch.zeros(K, K)
    for i, j in itertools.product(range(K), range(K)):  # member i with the settings of j
        pulled = {"anchor": member(anchor, j)} if anchored else {}
        alone = descend(LOSS, member(start, j), steps=STEPS, batches=iter(orders[j]), **pick(rates, j), **pulled)
        gaps[i, j] = gap(together, alone, i)
    assert float(gaps.diagonal().max()) <= 1e-12 and size < n
    assert float((gaps + torch.eye(K)).min()) >= 1e-3  # control: no member is another


@pytest.mark.parametrize("name", ["lr", "momentum", "decay", "anchor", "x", "y"])
def test_each_setting_of_a_member_is_its_own(name):
    """Changing one setting of member 2 changes that member only; the others keep every bit."""
    start, anchor, x, y = task()
    values = {**RATES, "anchor": anchor, "x": x.expand(K, *x.shape), "y": y}
    run = lambda v: descend(  # noqa: E731
        LOSS, start, steps=20, batches=itertools.repeat((v["x"], v["y"])), **{k: v[k] for k in (*RATES, "anchor")}
    )
    before = run(values)
    changed = {k: v.clone() for k, v in anchor.items()} if name == "anchor" else values[name].clone()
    (changed["W1"] if name == "anchor" else changed)[2] *= 1.05
    after = run({**values, name: changed})
    same = torch.stack([(after.theta[k] == v).flatten(1).all(dim=1) for k, v in before.theta.items()]).all(dim=0)
    assert same.tolist() == [True, True, False, True]


def test_the_gap_grows_where_the_dynamics_amplify_it():
    """Two units that are equal up to 1e-9 sit near a saddle; leaving it multiplies rounding as it does their distance.

    Together and alone differ by rounding: within 1e-12 for 100 steps.  Then the gap grows at the rate of the distance
    of the two units, by more than a thousand.  Control: members that do not start near the saddle stay within 1e-12.
    """
    gen = seeded(5)
    arch = mlp((2, 2, 1), "tanh", bias=False)
    x = torch.randn(2, 32, generator=gen, dtype=F64)
    y = 1.5 * (2 * x[:1]).tanh() - (x[1:] - x[:1]).tanh()
    start = arch.init(gen, members=K, scale=0.5)
    near = {k: v.clone() for k, v in start.items()}
    near["W1"][:, 1] = near["W1"][:, 0] + 1e-9 * torch.randn(K, 2, generator=gen, dtype=F64)
    near["W2"][:, :, 1] = near["W2"][:, :, 0]
    both = {k: torch.cat([near[k], v]) for k, v in start.items()}
    run = lambda theta: descend(  # noqa: E731
        LossOf(x, y), theta, steps=3000, lr=0.3, every=100, record={"W1": lambda t: t["W1"]}
    )
    together = run(both).log["W1"]  # (2 K, records, 2 units, 2)
    gaps = (together - torch.stack([run(member(both, i)).log["W1"] for i in range(2 * K)])).flatten(2).norm(dim=2)
    apart = (together[..., 0, :] - together[..., 1, :]).norm(dim=2)
    assert float(gaps[:, :2].max()) <= 1e-12 and float(gaps[K:].max()) <= 1e-12
    assert float(apart[:K, 0].max()) <= 1e-8 and float(apart[:K, -1].min()) >= 0.1
    for gap, distance in zip(gaps[:K], apart[:K], strict=True):
        rising = (distance > 1e-7) & (distance < 1e-2)  # where the distance grows exponentially
        rates = [float(v[rising].log().diff().mean()) for v in (gap, distance)]
        assert rates[1] > 0.5 and abs(rates[0] / rates[1] - 1) <= 0.2
        assert float(gap.max()) >= 1000 * float(gap[1])


class LossOf:
    """A layered loss on fixed data."""

    def __init__(self, x, y):
        self.gradient = lambda theta: LOSS.gradient(theta, x, y)


# methods


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_adam_is_pytorchs(decay):
    start, _, x, y = task()
    lrs = torch.tensor([1e-2, 1e-3, 3e-2, 1e-2], dtype=F64)
    run = descend(
        LOSS, start, steps=STEPS, lr=lrs, decay=decay, method="adam", batches=itertools.repeat((x, y)), every=STEPS
    )
    for i, make in itertools.product(range(K), (torch.optim.Adam, torch.optim.AdamW)):
        leaves = {k: v.clone().requires_grad_() for k, v in member(start, i).items()}
        optimizer = make(leaves.values(), lr=float(lrs[i]), weight_decay=decay)
        for _ in range(STEPS):
            optimizer.zero_grad()
            LOSS(leaves, x, y[i]).backward()
            optimizer.step()
        away = max(float((run.theta[k][i] - v.detach()).abs().max()) for k, v in leaves.items())
        # control: AdamW, whose decay is not in the gradient, is another method
        assert away <= 1e-12 if make is torch.optim.Adam or not decay else away >= 1e-3


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("sgd", [[1.0, -2.0], [0.9, -1.8], [0.81, -1.62]]),  # times 1 - lr
        ("momentum", [[1.0, -2.0], [0.9, -1.8], [0.76, -1.52]]),  # v = 1, 0.5 + 0.9
        ("sign", [[1.0, -2.0], [0.9, -1.9], [0.8, -1.8]]),  # lr each
        ("adam", [[1.0, -2.0], [0.9, -1.9], [0.8, -1.8]]),  # m / sqrt(v) is near 1 at first
    ],
)
def test_two_steps_by_hand(method, expected):
    """Half of |w|^2 from (1, -2) with lr 0.1 (and momentum 0.5)."""
    kind = {"method": "sgd", "momentum": 0.5} if method == "momentum" else {"method": method}
    run = descend(
        lambda t: t["w"].square().sum(-1) / 2,
        {"w": torch.tensor([[1.0, -2.0]], dtype=F64)},
        steps=2,
        lr=0.1,
        record={"w": lambda t: t["w"]},
        **kind,
    )
    assert torch.allclose(run.log["w"][0], torch.tensor(expected, dtype=F64), atol=1e-3 if method == "adam" else 1e-15)


@pytest.mark.parametrize("method", ["sgd", "momentum", "adam", "sign"])
def test_decay_pulls_to_the_anchor(method):
    """Without a loss, w - anchor follows the recursion of w without an anchor; the anchor itself is a fixed point."""
    gen = seeded(0)
    start, anchor = ({"w": torch.randn(K, 5, generator=gen, dtype=F64)} for _ in range(2))
    nothing = lambda t: 0 * t["w"].sum(-1)  # noqa: E731
    kind = {"momentum": 0.9} if method == "momentum" else {"method": method}
    run = lambda w, **k: descend(nothing, {"w": w}, steps=30, lr=0.01, decay=0.5, **kind, **k).theta["w"]  # noqa: E731
    moved = run(start["w"], anchor=anchor)
    assert torch.allclose(moved - anchor["w"], run(start["w"] - anchor["w"]), rtol=0, atol=1e-13)
    assert not torch.allclose(moved, run(start["w"]), atol=1e-3)  # control: the anchor matters
    assert torch.equal(run(anchor["w"], anchor=anchor), anchor["w"])
    if method == "sgd":
        assert torch.allclose(moved - anchor["w"], 0.995**30 * (start["w"] - anchor["w"]), rtol=1e-12)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"lr": torch.tensor([0.1, 0.2, 0.3])}, "lr should be a number or one per member"),
        ({"lr": torch.tensor([0.1, 0.0, 0.3, 0.1])}, "wanted lr > 0"),
        ({"lr": 0.1, "momentum": torch.tensor([0.1, 1.0, 0.3, 0.1])}, "wanted lr > 0, 0 <= momentum < 1"),
        ({"lr": 0.1, "decay": torch.tensor([0.1, math.nan, 0.3, 0.1])}, "decay >= 0, all finite"),
        ({"lr": 0.1, "momentum": 0.9, "method": "adam"}, "momentum belongs to method 'sgd'"),
        ({"lr": 0.1, "method": "lion"}, "unknown method 'lion'; known are sgd, adam, sign"),
        ({"lr": 0.1, "diverged": "hide"}, "unknown diverged 'hide'"),
        ({"lr": 0.1, "anchor": {"W1": torch.zeros(1)}}, "the anchor should have the names and shapes of theta"),
    ],
)
def test_bad_settings_of_an_ensemble_are_refused(bad, message):
    start, _, x, y = task()
    with pytest.raises(ValueError, match=message):
        descend(LOSS, start, steps=2, batches=itertools.repeat((x, y)), **bad)


def test_rates_of_members_need_a_loss_of_members():
    with pytest.raises(ValueError, match="lr has one number for each of 4, the loss shape"):
        descend(lambda t: t["w"].sum(), {"w": torch.ones(4, 3)}, steps=2, lr=torch.full((4,), 0.1))


# early stop


def test_a_member_that_stops_stays_and_the_others_keep_every_bit():
    start, _, x, y = task()
    record, kept = {"W1": lambda t: t["W1"]}, {"steps": 200, "every": 10, "lr": RATES["lr"], "momentum": 0.5}
    run = lambda until: descend(LOSS, start, batches=itertools.repeat((x, y)), record=record, until=until, **kept)  # noqa: E731
    free = run(None)
    bound = free.log["loss"][:, 8].median()  # half of the members are below by then
    some = run(lambda loss: loss < bound)
    assert free.stopped is None and some.stopped.dtype == F64
    below = free.log["loss"] < bound
    first = torch.where(below.any(1), free.steps[below.int().argmax(dim=1)], 200.0)
    assert torch.equal(some.stopped, first) and 0 < float(first.min()) < 200 == float(first.max())
    for i in range(K):
        at = int(first[i]) // 10
        assert torch.equal(some.log["W1"][i, : at + 1], free.log["W1"][i, : at + 1])
        assert bool((some.log["W1"][i, at:] == free.log["W1"][i, at]).all())  # control below: the free one moves on
        assert torch.equal(some.theta["W1"][i], free.log["W1"][i, at])
        assert at == 20 or not torch.equal(free.log["W1"][i, at], free.log["W1"][i, -1])


def test_a_run_ends_with_its_last_member():
    start, _, x, y = task()
    drawn = itertools.count()
    batches = ((x, y) for _ in drawn)
    run = descend(LOSS, start, steps=1000, lr=0.1, every=5, batches=batches, until=lambda v: v < math.inf)
    assert run.steps.tolist() == [0] and run.stopped.tolist() == [0] * K and next(drawn) <= 2
    assert all(torch.equal(run.theta[k], v) for k, v in start.items())


def test_members_that_diverge_can_be_stopped():
    w = torch.tensor([[0.1], [1.0], [0.05], [3.0]], dtype=F64)
    train = lambda start, **k: descend(lambda t: -t["w"].pow(4).sum(-1), {"w": start}, steps=60, lr=0.1, **k)  # noqa: E731
    with pytest.raises(Divergence):
        train(w)
    run, fine = train(w, diverged="stop", every=3), train(w[[0, 2]], every=3)
    bad = ~torch.isfinite(run.log["loss"])
    assert bad.any(dim=1).tolist() == [False, True, False, True]
    assert run.stopped.tolist() == [60, *run.steps[bad[1]][:1].tolist(), 60, *run.steps[bad[3]][:1].tolist()]
    assert torch.equal(run.log["loss"][[0, 2]], fine.log["loss"]) and torch.equal(
        run.theta["w"][[0, 2]], fine.theta["w"]
    )


# a run is a function of values


@pytest.mark.parametrize("method", ["sgd", "momentum", "adam", "sign"])
def test_arguments_are_left_alone_and_nothing_of_them_is_kept(method):
    start, anchor, x, y = task()
    rates = settings(method)
    given = [*start.values(), *anchor.values(), x, y, *(v for v in rates.values() if isinstance(v, torch.Tensor))]
    before = [v.clone() for v in given]
    kept = {"lr": rates.pop("lr"), "anchor": anchor, "batches": itertools.repeat((x, y)), **rates}
    runs = [descend(LOSS, start, steps=5, **kept) for _ in range(2)]
    stopped = descend(LOSS, start, steps=5, until=lambda v: v < math.inf, **kept)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert all(torch.equal(runs[0].theta[k], v) for k, v in runs[1].theta.items())  # and nothing is left over
    places = {v.untyped_storage().data_ptr() for v in given}
    for run in (*runs, stopped):
        assert not places & {v.untyped_storage().data_ptr() for v in (*run.theta.values(), *run.log.values())}


def test_any_loss_of_members_will_do():
    """The layered loss and autograd over the architecture are the same run; a loss with a mistake is not."""
    start, _, x, _ = task()
    labels = torch.randint(2, (x.shape[1],), generator=seeded(1))
    losses = {
        "layered": LayeredLoss("tanh", "cross-entropy"),
        "autograd": lambda t, x, y: cross_entropy(ARCH(t, x), y),
        "mistaken": lambda t, x, y: cross_entropy(ARCH(t, x), y) * 1.001,
    }
    runs = {
        k: descend(f, start, steps=STEPS, lr=0.1, momentum=0.9, batches=itertools.repeat((x, labels)))
        for k, f in losses.items()
    }
    distance = lambda k: max(float((runs[k].theta[n] - v).abs().max()) for n, v in runs["layered"].theta.items())  # noqa: E731
    assert distance("autograd") <= 1e-12 and distance("mistaken") >= 1e-5
    assert dynamics.accuracy(LOSS.output(runs["layered"].theta, x), labels).shape == (K,)
