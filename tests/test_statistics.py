"""The running statistics of batch normalisation: measured as torch measures them, carried, and not learned."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import grad, jvp, vmap

from symlib import checks, models
from symlib.conserved import charges, isometries, momentum_map
from symlib.counting import conservation_laws, functional_dimension
from symlib.models import BatchNorm, reset_statistics
from symlib.symmetry import flatten, inner

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Plain(nn.Module):
    """A network as people write it, with torch's own normalisations, a dropout and a skip."""

    def __init__(self, generator):
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.norm2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, affine=False)
        self.drop, self.last, self.norm3 = nn.Dropout(0.5), nn.Linear(4, 3), nn.BatchNorm1d(3)
        for p in self.parameters():
            nn.init.normal_(p, generator=generator)

    def forward(self, x):
        x = torch.relu(self.norm1(self.first(x)))
        x = torch.relu(x + self.norm2(self.second(x)))
        return self.norm3(self.last(self.drop(x.mean(dim=(-2, -1)))))


BUILD = {
    "mlp": lambda g: models.MLP((3, 4, 5, 2), "relu", norm="batch", generator=g),
    "convolutional": lambda g: models.ConvNet((2, 3, 4), 3, size=4, norm="batch", generator=g),
    "vgg": lambda g: models.VGG(2, ((3, 4), (2,)), 3, size=4, dense=(3,), norm="batch", generator=g),
    "residual": lambda g: models.ResNet((2, 3, 4), 1, 3, size=4, norm="batch", generator=g),
    "plain": Plain,
}
OURS = [name for name in BUILD if name != "plain"]


def drawn(name, gen, samples=6):
    """A model in float64, a generic point of it, and inputs whose channels have means and sizes of their own."""
    model = BUILD[name](gen).double()
    values = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    theta = {k: torch.randn(v.shape, generator=gen, dtype=F64) for k, v in values.items()}
    x = torch.randn(samples, *((3,) if name == "mlp" else (2, 4, 4)), generator=gen, dtype=F64)
    return model, theta, 3 * x + torch.arange(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2))


def torchs(model, theta):
    """A copy at theta with torch's own normalisations, which keep the average of all batches."""
    twin = copy.deepcopy(model)
    for name, norm in list(twin.named_modules()):
        if isinstance(norm, BatchNorm):
            kind = nn.BatchNorm1d if isinstance(model, models.MLP) else nn.BatchNorm2d
            parent, _, child = name.rpartition(".")
            setattr(twin.get_submodule(parent), child, kind(len(norm.weight), dtype=F64))
    twin.load_state_dict({**twin.state_dict(), **theta})
    for norm in twin.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    twin.train()
    if isinstance(model, Plain):
        twin.drop.eval()
    return twin


# ---- measured


@pytest.mark.parametrize("name", BUILD)
def test_they_are_those_of_torch_in_training_mode_over_one_batch(name, gen):
    model, theta, x = drawn(name, gen)
    found, twin = reset_statistics(model, theta, x), torchs(model, theta)
    twin(x)
    assert found.keys() == theta.keys()
    for k, v in found.items():
        assert torch.allclose(v, twin.state_dict()[k], rtol=1e-12, atol=1e-12), k
        assert ("running" in k) != torch.equal(v, theta[k])


def test_they_are_mean_and_variance_layer_by_layer(gen):
    model, theta, x = drawn("mlp", gen)
    found = reset_statistics(model, theta, x)
    for i in (0, 1):
        z = x @ theta[f"layers.{i}.weight"].T + theta[f"layers.{i}.bias"]
        mean, n = z.sum(dim=0) / len(z), len(z)
        square = ((z - mean) ** 2).sum(dim=0)
        assert checks.relative_error(found[f"norms.{i}.running_mean"], mean) <= 1e-13
        assert checks.relative_error(found[f"norms.{i}.running_var"], square / (n - 1)) <= 1e-13
        standard = (z - mean) / (square / n + 1e-5).sqrt()
        x = torch.relu(theta[f"norms.{i}.weight"] * standard + theta[f"norms.{i}.bias"])


@pytest.mark.parametrize("name", BUILD)
def test_what_they_were_before_does_not_matter(name, gen):
    model, theta, x = drawn(name, gen)
    found, state = reset_statistics(model, theta, x), [k for k in theta if "running" in k]
    for value in (0.0, -1.0, torch.nan, torch.inf):
        other = {**theta, **{k: torch.full_like(theta[k], value) for k in state}}
        again = reset_statistics(model, other, x)
        assert all(torch.equal(again[k], v) for k, v in found.items())
    again = reset_statistics(model, {k: v for k, v in theta.items() if k not in state}, x)
    assert list(again) == list(found) and all(torch.equal(again[k], v) for k, v in found.items())


@pytest.mark.parametrize("name", BUILD)
def test_nothing_is_changed_in_place(name, gen):
    model, theta, x = drawn(name, gen)
    before, kept = copy.deepcopy(model.state_dict()), {k: v.clone() for k, v in theta.items()}
    for training in (True, False):
        model.train(training)
        found = reset_statistics(model, {k: v.requires_grad_() for k, v in theta.items()}, x)
        assert not any(v.requires_grad for k, v in found.items() if "running" in k)
        assert all(m.training == training for m in model.modules())
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert all(torch.equal(v, kept[k]) for k, v in theta.items())


@pytest.mark.parametrize("name", BUILD)
def test_members_are_measured_one_by_one(name, gen):
    model, theta, x = drawn(name, gen)
    many = {k: torch.randn(2, 3, *v.shape, generator=gen, dtype=F64) for k, v in theta.items()}
    found = reset_statistics(model, many, x)
    for i, j in ((0, 0), (1, 2)):
        alone = reset_statistics(model, {k: v[i, j] for k, v in many.items()}, x)
        assert all(torch.allclose(found[k][i, j], v, rtol=1e-11, atol=1e-12) for k, v in alone.items())


@pytest.mark.parametrize("name", OURS)
def test_evaluation_after_it_is_training_up_to_one_in_the_number_of_inputs(name, gen):
    model, theta, x = drawn(name, gen)
    theta = {k: v for k, v in theta.items() if "running" not in k}
    gaps = []
    for copies in (4, 8, 16, 32):
        many = x.repeat(copies, *[1] * (x.ndim - 1))
        evaluated = model.arch(reset_statistics(model, theta, many), many)
        gaps.append((evaluated - model.batch_forward(theta, many)).abs().max())
    checks.assert_order([1 / 4, 1 / 8, 1 / 16, 1 / 32], torch.stack(gaps), expected=1, tol=0.1)


# ---- carried by symmetries


@pytest.mark.parametrize("name", OURS)
def test_measuring_and_moving_may_change_places(name, gen):
    model, theta, x = drawn(name, gen)
    arch = model.arch
    for sym in arch.symmetries().values():
        g = sym.group.sample(gen)
        there, back = reset_statistics(model, sym(g, theta), x), sym(g, reset_statistics(model, theta, x))
        assert checks.relative_error(flatten(there, arch.shapes), flatten(back, arch.shapes)) <= 1e-12, sym.name
        output = model.batch_forward(theta, x)
        assert checks.relative_error(model.batch_forward(sym(g, theta), x), output) <= 1e-11, sym.name


@pytest.mark.parametrize("name", OURS)
def test_a_symmetry_that_leaves_them_behind_is_refused(name, gen):
    arch = BUILD[name](gen).arch
    sym = next(iter(arch.symmetries().values()))
    mutant = replace(sym, act=lambda g, theta: {**sym.act(g, theta), **{k: theta[k] for k in arch.state}})
    checks.assert_laws(arch, sym, generator=gen, draws=2)
    with pytest.raises(AssertionError, match="invariance error"):
        checks.assert_laws(arch, mutant, generator=gen, draws=2)


def test_no_charge_runs_along_them(gen):
    model, theta, x = drawn("mlp", gen)
    arch = model.arch
    sym = arch.symmetries()["translation h1"]
    for read in (charges, isometries, lambda sym: momentum_map(sym, theta)):
        with pytest.raises(ValueError, match=r"'translation h1': it moves norms.0.running_mean, which are measured"):
            read(sym)
    slope = grad(lambda theta: model.batch_forward(theta, x).square().sum())(theta)
    found = charges(arch.symmetries()["rescaling behind the norm of h1"])
    assert len(found) == 4 and charges(arch.symmetries()["permutation h1"]) == []
    for charge in found:  # conserved by the flow that uses the statistics of the batch
        along = grad(charge.value)(theta)
        product = inner(along, slope, arch.shapes).abs()
        assert product <= 1e-11 * flatten(along, arch.shapes).norm() * flatten(slope, arch.shapes).norm()


@pytest.mark.parametrize("count", [conservation_laws, functional_dimension])
def test_counts_refuse_them(count, gen):
    with pytest.raises(ValueError, match=r"relu MLP .*: norms.0.running_mean, .* are measured and not learned"):
        count(BUILD["mlp"](gen).arch, generator=gen)


# ---- the normalisation


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4), (2, 3, 4, 4)])
def test_our_normalisation_is_that_of_torch_and_keeps_its_statistics(shape, gen):
    ours, same = (
        BatchNorm(3).double(),
        {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](3).double(),
    )
    values = {k: torch.rand(3, generator=gen, dtype=F64) + 0.5 for k in ours.state_dict()}
    ours.load_state_dict(values)
    same.load_state_dict({**same.state_dict(), **values})
    x = 2 * torch.randn(shape, generator=gen, dtype=F64) + 1
    for training in (False, True):
        assert checks.relative_error(ours.train(training)(x), same.train(training)(x)) <= 1e-13
    assert all(torch.equal(v, values[k]) for k, v in ours.state_dict().items())
    assert not torch.equal(same.running_mean, values["running_mean"])  # torch's does change


def test_the_function_can_be_differentiated_along_its_statistics(gen):
    model, theta, x = drawn("mlp", gen)
    arch, theta = model.arch, {k: v.abs() for k, v in theta.items()}
    along = {k: torch.randn(v.shape, generator=gen, dtype=F64) * (k in arch.state) for k, v in theta.items()}
    slope = jvp(lambda theta: arch(theta, x), (theta,), (along,))[1]

    def difference(h):
        ahead, behind = ({k: theta[k] + s * h * along[k] for k in theta} for s in (1, -1))
        return ((arch(ahead, x) - arch(behind, x)) / (2 * h) - slope).abs().max()

    steps = [1e-2, 5e-3, 2.5e-3]
    checks.assert_order(steps, torch.stack([difference(h) for h in steps]), expected=2, tol=0.2)


def test_training_on_batches_needs_no_statistics_and_names_what_is_missing(gen):
    model, theta, x = drawn("vgg", gen)
    learned = {k: v for k, v in theta.items() if "running" not in k}
    for training in (True, False):
        assert torch.equal(model.train(training).batch_forward(learned, x), model.batch_forward(theta, x))
    assert checks.relative_error(model.batch_forward(theta, x), torchs(model, theta)(x)) <= 1e-12
    members = {k: torch.stack([v, 2 * v]) for k, v in learned.items()}
    together = vmap(model.batch_forward, (0, None))(members, x)
    assert checks.relative_error(together[0], model.batch_forward(learned, x)) <= 1e-12
    with pytest.raises(ValueError, match=r"VGG 2-3-4-2-3, relu, batch norm: .*missing \['head.bias'\]"):
        model.batch_forward({k: v for k, v in learned.items() if k != "head.bias"}, x)


# ---- bad input


class Odd(nn.Module):
    """A normalisation that the forward pass reaches `times` times."""

    def __init__(self, times):
        super().__init__()
        self.times, self.scale, self.norm = times, nn.Parameter(torch.ones(2)), nn.BatchNorm1d(2)

    def forward(self, x):
        for _ in range(self.times):
            x = self.norm(x * self.scale)
        return x


def measure(model, change=lambda theta: theta, x=None):
    theta = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    return reset_statistics(model, change(theta), torch.randn(4, 2, generator=seeded()) if x is None else x)


def without(key):
    return lambda theta: {k: v for k, v in theta.items() if k != key}


REFUSED = {
    "no norm": (lambda: measure(nn.Linear(2, 2)), "Linear has no batch normalisation with running statistics"),
    "no statistics": (
        lambda: measure(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))),
        "Sequential has no batch normalisation with running statistics",
    ),
    "twice": (lambda: measure(Odd(2)), "the forward pass reaches norm more than once"),
    "never": (lambda: measure(Odd(0)), "the forward pass does not reach norm"),
    "missing": (lambda: measure(Odd(1), without("scale")), r"reset_statistics: .*missing \['scale'\]"),
    "another": (lambda: measure(Odd(1), lambda t: {**t, "shift": t["scale"]}), r"not known \['shift'\]"),
    "shape": (lambda: measure(Odd(1), lambda t: {**t, "scale": torch.ones(3)}), r"scale should have shape \(2,\)"),
    "NaN": (lambda: measure(Odd(1), lambda t: {**t, "scale": torch.full((2,), torch.nan)}), "scale holds 2 NaN or inf"),
    "infinite inputs": (lambda: measure(Odd(1), x=torch.full((4, 2), torch.inf)), "norm.running_mean holds 2 NaN or i"),
    "one input": (
        lambda: measure(Odd(1), x=torch.ones(1, 2)),
        "norm is reached by 1 value of each channel, a variance wants two",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_bare_normalisation_is_a_module_too(gen):
    x = torch.randn(9, 2, generator=gen)
    found = measure(nn.BatchNorm1d(2), x=x)
    assert torch.allclose(found["running_var"], x.var(dim=0)) and torch.allclose(found["running_mean"], x.mean(dim=0))
