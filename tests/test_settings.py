"""What a training run may also be given: slopes of units, a schedule, a clipped gradient, parameters that are held.

Oracles are PyTorch's own optimisers, schedulers and autograd; every setting meets a mutant of it.
"""

from dataclasses import replace

import pytest
import torch

from symlib.architectures import mlp
from symlib.dynamics import LayeredLoss, Pinned, cosine, descend, gradient, layers, member

F64 = torch.float64
K, WIDTHS, N = 3, (4, 6, 6, 5), 11


def task(seed=0, members=K):
    gen = torch.Generator().manual_seed(seed)
    theta = mlp(WIDTHS, "relu").init(gen, members=members, scale=1.5)
    x = torch.randn(WIDTHS[0], N, generator=gen, dtype=F64)
    return theta, x, torch.randint(WIDTHS[-1], (N,), generator=gen), gen


def furthest(a, b):
    return max(float((a[k] - v).abs().max()) for k, v in b.items())


def by_autograd(theta, x, y, slope):
    leaves = {k: v.clone().requires_grad_() for k, v in theta.items()}
    for i in (1, 2, 3):
        z = leaves[f"W{i}"] @ x + leaves[f"b{i}"]
        x = torch.where(z > 0, z, slope * z) if i < 3 else z
    loss = torch.nn.functional.cross_entropy(x.T, y)
    return loss.detach(), dict(zip(leaves, torch.autograd.grad(loss, tuple(leaves.values())), strict=True))


# slopes


@pytest.mark.parametrize("tile", [layers.TILE, 1])
@pytest.mark.parametrize("kind", ["one", "of units", "of members", "zero"])
def test_slopes_are_those_of_autograd(kind, tile, monkeypatch):
    monkeypatch.setattr(layers, "TILE", tile)  # 1: one member at a time
    theta, x, y, gen = task()
    slope = {"one": 0.25, "zero": 0.0, "of units": torch.rand(6, 1, generator=gen, dtype=F64),
             "of members": torch.rand(K, 6, 1, generator=gen, dtype=F64)}[kind]  # fmt: skip
    loss = LayeredLoss("leaky-relu", "cross-entropy", slope)
    value, grad = gradient(loss, theta, x, y)
    for i in range(K):
        own = slope[i] if kind == "of members" else slope
        one, wanted = by_autograd(member(theta, i), x, y, own)
        assert abs(float(value[i] - one)) <= 1e-13 and furthest(member(grad, i), wanted) <= 1e-13
        alone = gradient(LayeredLoss("leaky-relu", "cross-entropy", own), member(theta, i), x, y)[1]
        assert furthest(alone, wanted) <= 1e-13
        assert furthest(by_autograd(member(theta, i), x, y, 0.5 * own + 0.1)[1], wanted) > 1e-4  # another slope


def test_slope_zero_is_relu_and_slope_one_is_linear():
    theta, x, y, _ = task()
    for slope, name in [(0.0, "relu"), (1.0, "linear")]:
        leaky = gradient(LayeredLoss("leaky-relu", "cross-entropy", slope), theta, x, y)
        plain = gradient(LayeredLoss(name, "cross-entropy"), theta, x, y)
        assert torch.equal(leaky[0], plain[0]) and furthest(leaky[1], plain[1]) <= 1e-15


def test_hidden_layers_are_those_of_the_forward_pass():
    theta, x, _, _ = task()
    h1, h2 = LayeredLoss("relu").hidden(theta, x)
    assert torch.allclose(h2, torch.relu(theta["W2"] @ h1 + theta["b2"])) and h1.shape == (K, 6, N)
    alone = LayeredLoss("relu").hidden(member(theta, 1), x)
    assert torch.allclose(alone[1], h2[1], atol=1e-14) and not torch.allclose(alone[1], h2[0])


@pytest.mark.parametrize(
    ("activation", "slope", "message"),
    [("relu", 0.1, "leaky-relu alone"), ("leaky-relu", None, "leaky-relu alone"),
     ("leaky-relu", 1.5, "between 0 and 1"),
     ("leaky-relu", torch.tensor([[0.2], [float("nan")]]), "between 0 and 1"), ("gelu", None, "activation")],
)  # fmt: skip
def test_bad_slopes_are_refused(activation, slope, message):
    with pytest.raises(ValueError, match=message):
        LayeredLoss(activation, slope=slope)


# schedule and clip


class Fixed:
    """A loss on fixed data, with the written-out gradient."""

    def __init__(self, x, y):
        self.gradient = lambda theta: LayeredLoss("relu", "cross-entropy").gradient(theta, x, y)


@pytest.mark.parametrize("method", ["sgd", "adam"])
def test_schedule_and_clip_are_pytorchs(method):
    """torch.optim with a LambdaLR and clip_grad_norm_, for each member alone.  Member 0 is clipped, not all are."""
    theta, x, y, _ = task()
    theta = {k: v * torch.tensor([3.0, 1.0, 0.3], dtype=F64).reshape(K, 1, 1) for k, v in theta.items()}
    steps, lr, most = 30, 0.05 if method == "sgd" else 0.01, 1.0
    pace = cosine(steps, warmup=5, least=0.01)
    rates = {"lr": lr, "decay": 0.01, **({"momentum": 0.9} if method == "sgd" else {})}
    run = lambda **how: descend(Fixed(x, y), theta, steps=steps, method=method, **{**rates, **how})  # noqa: E731
    ours = run(schedule=pace, clip=most)
    cut = []
    for i in range(K):
        leaves = {k: v.clone().requires_grad_() for k, v in member(theta, i).items()}
        values = list(leaves.values())
        optimizer = (
            torch.optim.SGD(values, lr=lr, momentum=0.9, weight_decay=0.01)
            if method == "sgd"
            else torch.optim.Adam(values, lr=lr, weight_decay=0.01)
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: float(pace[min(t, steps - 1)]))
        for _ in range(steps):
            h = x
            for j in (1, 2, 3):
                h = leaves[f"W{j}"] @ h + leaves[f"b{j}"]
                h = torch.relu(h) if j < 3 else h
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(h.T, y).backward()
            cut.append(float(torch.nn.utils.clip_grad_norm_(values, most)) > most)
            optimizer.step()
            scheduler.step()
        assert furthest(member(ours.theta, i), {k: v.detach() for k, v in leaves.items()}) <= 1e-5  # clip adds 1e-6
    assert 0 < sum(cut) < len(cut)
    for other in ({"schedule": pace}, {"clip": most}, {"schedule": pace, "clip": 0.9}):  # mutants
        assert furthest(run(**other).theta, ours.theta) >= 1e-3


def test_a_cosine_rises_and_falls():
    pace = cosine(100, warmup=10, least=0.1)
    assert pace.shape == (100,) and float(pace[0]) == pytest.approx(1 / 11) and float(pace[10]) == 1.0
    assert float(pace[55]) == pytest.approx(0.55) and 0.1 < float(pace[-1]) < 0.101
    assert bool((pace[:10].diff() > 0).all()) and bool((pace[10:].diff() < 0).all())
    for bad in ({"warmup": 100}, {"warmup": -1}, {"least": 1.1}):
        with pytest.raises(ValueError, match="cosine"):
            cosine(100, **bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"schedule": [1.0] * 9}, "10 factors"), ({"schedule": [1.0] * 9 + [-1.0]}, "10 factors"),
     ({"schedule": [1.0] * 9 + [float("nan")]}, "10 factors"), ({"clip": 0.0}, "clip"), ({"clip": -1.0}, "clip")],
)  # fmt: skip
def test_bad_settings_are_refused(bad, message):
    theta, x, y, _ = task()
    with pytest.raises(ValueError, match=message):
        descend(Fixed(x, y), theta, steps=10, lr=0.1, **bad)


def test_a_checkpoint_knows_its_schedule(tmp_path):
    theta, x, y, _ = task()
    run = lambda least: descend(  # noqa: E731
        Fixed(x, y), theta, steps=10, lr=0.1, schedule=cosine(10, least=least), checkpoint=tmp_path / "a", save_every=4
    )
    first = run(0.1)
    assert furthest(run(0.1).theta, first.theta) == 0  # from step 8
    with pytest.raises(ValueError, match="schedule"):
        run(0.2)


# parameters that are held


def held(gen, members=False):
    """A quarter of the first weights and one whole row of the second, at random values."""
    lead = (K,) if members else ()
    free = {"W1": (torch.rand(*lead, 6, 4, generator=gen) > 0.25).double(), "W2": torch.ones(*lead, 6, 6, dtype=F64)}
    free["W2"][..., 2, :] = 0
    fixed = {k: (1 - v) * torch.randn(v.shape, generator=gen, dtype=F64) for k, v in free.items()}
    return Pinned(LayeredLoss("relu", "cross-entropy"), free, fixed)


@pytest.mark.parametrize("members", [False, True])
def test_held_parameters_are_held(members):
    theta, x, y, gen = task()
    loss = held(gen, members)
    value, grad = gradient(loss, theta, x, y)
    leaves = {k: v.clone().requires_grad_() for k, v in theta.items()}
    whole = {k: v * loss.free[k] + loss.fixed[k] if k in loss.free else v for k, v in leaves.items()}
    total = loss.loss(whole, x, y)
    wanted = dict(zip(leaves, torch.autograd.grad(total.sum(), tuple(leaves.values())), strict=True))
    assert torch.allclose(value, total) and furthest(grad, wanted) <= 1e-13
    assert furthest(gradient(loss.loss, theta, x, y)[1], wanted) >= 1e-3  # nothing held: another gradient
    run = descend(loss, theta, steps=20, lr=0.1, decay=0.1, batches=iter([(x, y)] * 21))
    moved, before = loss.whole(run.theta), loss.whole(theta)
    for k, free in loss.free.items():
        away, stay = (moved[k] - before[k]).abs(), free.expand_as(moved[k]) == 0
        assert float(away[stay].max()) == 0 and float(away[~stay].median()) >= 1e-3


@pytest.mark.parametrize("name", ["free", "fixed"])
def test_bad_masks_are_refused(name):
    loss = held(torch.Generator().manual_seed(1))
    wrong = {"free": {**loss.free, "W1": 0.5 * loss.free["W1"]}, "fixed": {"W1": loss.fixed["W1"]}}[name]
    with pytest.raises(ValueError, match="pinned: "):
        replace(loss, **{name: wrong})
