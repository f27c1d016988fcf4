"""The laws under momentum: exact on real networks, in the right regime, and against the published oscillator."""

import math

import pytest
import sympy
import torch

from symlib import checks, conserved, data, dynamics
from symlib.architectures import mlp, normalised_layer, softmax_classifier

LR, BETA, DECAY = 0.05, 0.9, 0.02

# Softmax translation, S(0) = 1, v(0) = 0; computed apart from this package.  "ode" is Kunin et al., arXiv 2012.04728,
# with the constants of their released code (metrics/translation.py); "gap" the largest |S - ode| of 400 steps.
CASES = [
    {
        "how": dict(lr=0.1, momentum=0.0, decay=0.005),
        "S": {1: 0.9995, 10: 0.9950112350131172, 100: 0.9512175302423292, 400: 0.818689803913774},
        "ode": {1: 0.9997161863862892, 10: 0.9952601743339862, 100: 0.9514555111425054, 400: 0.818894623165325},
        "gap": 0.0002496034762732302,
    },
    {
        "how": dict(lr=0.1, momentum=0.9, decay=0.05),
        "S": {1: 0.995, 10: 0.8019718375462528, 100: -0.003525076514089891, 400: 9.405352085542063e-10},
        "ode": {1: 0.9974594841936135, 10: 0.8168280725539324, 100: -0.0038108218654508215, 400: 9.950934084080523e-10},
        "gap": 0.01632565462229263,
    },
    {
        "how": dict(lr=0.01, momentum=0.9, decay=0.5),
        "S": {1: 0.995, 10: 0.8019718375462528, 100: -0.003525076514089895, 400: 9.405352085542059e-10},
        "ode": {1: 0.9974594841936135, 10: 0.8168280725539324, 100: -0.0038108218654508007, 400: 9.950934084080485e-10},
        "gap": 0.016325654622292407,
    },
]


def matrix(**how: float) -> torch.Tensor:
    return torch.tensor(conserved.heavy_ball(**how), dtype=torch.float64)


def exact(steps: int, **how: float) -> torch.Tensor:
    """S after 0..steps steps, by the recursion."""
    s, M = torch.tensor([1.0, 0.0], dtype=torch.float64), matrix(**how)
    out = [s]
    for _ in range(steps):
        out.append(M @ out[-1])
    return torch.stack(out)[:, 0]


@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c["how"]))
def test_translation_against_the_case_file(case):
    S, t = exact(400, **case["how"]), case["how"]["lr"] * torch.arange(401, dtype=torch.float64)
    ode, _ = conserved.oscillator(t, **case["how"], degree=1)
    for k, value in case["S"].items():
        assert float(S[k]) == pytest.approx(value, abs=1e-12)
    for k, value in case["ode"].items():
        assert float(ode[k]) == pytest.approx(value, abs=1e-12)
    assert float((S - ode).abs().max()) == pytest.approx(case["gap"], abs=1e-12)


def network(kind: str):
    """An architecture, one of its symmetries, and its loss on digits."""
    arch, name = {
        "translation": (softmax_classifier(64, 10), "translation y"),
        "scale": (normalised_layer(64, 6, 10), "scale h"),
        "rescale": (mlp((64, 6, 10), "relu"), "rescaling h1"),
        "general linear": (mlp((64, 4, 10), "linear"), "general linear h1"),
    }[kind]

    def loss(theta: dict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        out = arch(theta, x)
        return dynamics.cross_entropy(out.log() if kind == "translation" else out, y)

    return arch, arch.symmetries()[name], loss


def train(kind: str, gen: torch.Generator, steps: int = 40):
    """Charges along a run, and what the laws make of the start and the kicks (last: without half of the kick)."""
    arch, sym, loss = network(kind)
    task, Q = data.digits(gen), lambda theta: conserved.momentum_map(sym, theta)
    theta = arch.init(gen, members=2)
    v = {k: torch.zeros_like(p) for k, p in theta.items()}
    batches, how = data.minibatches(task.x_train, task.y_train, 20, gen), dict(lr=LR, momentum=BETA, decay=DECAY)
    q = Q(theta)
    gram, wrong = (torch.diag_embed(torch.stack([q, 0 * q], dim=-1)) for _ in range(2))
    linear, M = torch.stack([q, 0 * q], dim=-1), matrix(**how)
    for _ in range(steps):
        grad = dynamics.gradient(loss, theta, *next(batches))[1]
        pushed = {k: BETA * p for k, p in v.items()}
        kick = Q({k: pushed[k] + grad[k] for k in grad}) - Q(pushed)
        gram = conserved.momentum_law(gram, kick, **how)
        wrong = conserved.momentum_law(wrong, Q(grad), **how)
        linear = linear @ M.T
        theta, v = dynamics.momentum_step(theta, v, grad, **how)
    return Q(theta), Q(v), gram, linear, wrong


@pytest.mark.parametrize("kind", ["scale", "rescale", "general linear"])
def test_quadratic_charges_obey_the_law_and_not_its_mutant(kind, gen):
    q, speed, gram, _, wrong = train(kind, gen)
    assert float(checks.relative_error(gram[..., 0, 0], q)) < 1e-12
    assert float(checks.relative_error(gram[..., 1, 1], speed)) < 1e-12
    assert float(checks.relative_error(wrong[..., 0, 0], q)) > 1e-3


def test_linear_charges_are_multiplied_by_the_matrix_and_not_squared(gen):
    q, speed, gram, linear, _ = train("translation", gen)
    assert float(checks.relative_error(linear[..., 0], q)) < 1e-12
    assert float(checks.relative_error(linear[..., 1], speed)) < 1e-12
    assert float(checks.relative_error(gram[..., 0, 0], q)) > 1e-2


def test_the_law_without_momentum_is_that_of_one_step(gen):
    arch, sym, loss = network("rescale")
    theta, task = arch.init(gen), data.digits(gen)
    grad = dynamics.gradient(loss, theta, task.x_train, task.y_train)[1]
    q, kick = conserved.momentum_map(sym, theta), conserved.momentum_map(sym, grad)
    gram = torch.diag_embed(torch.stack([q, 0 * q], dim=-1))
    after = conserved.momentum_law(gram, kick, lr=LR, momentum=0.0, decay=DECAY)[..., 0, 0]
    assert float(checks.relative_error(after, conserved.one_step(sym, theta, grad, lr=LR, decay=DECAY))) < 1e-14


def test_matrix_of_symbols():
    eta, beta, gamma = sympy.symbols("eta beta gamma", positive=True)
    M = sympy.Matrix(conserved.heavy_ball(lr=eta, momentum=beta, decay=gamma))
    assert sympy.expand(M.det() - beta) == 0 and sympy.expand(M.trace() - (1 + beta - eta * gamma)) == 0


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99])
def test_regimes_change_where_the_discriminant_does(beta):
    """Complex eigenvalues exactly between (1 - sqrt beta)^2 and (1 + sqrt beta)^2."""
    low, high = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2
    for product, rings in ((0.99 * low, False), (1.01 * low, beta > 0), (0.99 * high, beta > 0), (1.01 * high, False)):
        z = torch.linalg.eigvals(matrix(lr=0.1, momentum=beta, decay=product / 0.1))
        assert bool((z.imag != 0).any()) == rings


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.1), (0.5, 0.1), (0.9, 0.1), (0.99, 0.1), (0.9, 0.0)])
def test_oscillator_solves_its_equation(momentum, decay, degree):
    lr = 0.1
    a, w2 = (1 - momentum) / (lr * (1 + momentum)), 2 * degree * decay / (lr * (1 + momentum))
    h = 1e-4
    t = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)
    before, here, after = (
        conserved.oscillator(t + d, lr=lr, momentum=momentum, decay=decay, degree=degree) for d in (-h, 0, h)
    )
    for left, x, right in zip(before, here, after, strict=True):
        rest = (right - 2 * x + left) / h**2 + 2 * a * (right - left) / (2 * h) + w2 * x
        assert float(rest.abs().max()) < 1e-5
    R, K = conserved.oscillator(torch.tensor([0.0, h]), lr=lr, momentum=momentum, decay=decay, degree=degree)
    assert float(R[0]) == 1 and float(K[0]) == 0
    assert float((R[1] - R[0]) / h) == pytest.approx(0, abs=1e-3 + w2 * h) and float(K[1] / h) == pytest.approx(
        1, abs=2 * a * h
    )


def test_oscillator_at_the_critical_point_is_the_limit_of_both_sides():
    """a = w at momentum 1/3, lr 1/2 (a = 1): decay = a^2 lr (1 + momentum) / 2 = 1/3."""
    t = torch.linspace(0, 5, 11, dtype=torch.float64)
    at = torch.stack(conserved.oscillator(t, lr=0.5, momentum=1 / 3, decay=1 / 3, degree=1))
    assert torch.allclose(at, torch.stack([torch.exp(-t) * (1 + t), torch.exp(-t) * t]), atol=1e-7)
    for decay in (1 / 3 - 1e-9, 1 / 3 + 1e-9):
        near = torch.stack(conserved.oscillator(t, lr=0.5, momentum=1 / 3, decay=decay, degree=1))
        assert torch.allclose(near, at, atol=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_oscillator_is_right_to_first_order_in_the_step(momentum):
    lrs = [4e-3, 2e-3, 1e-3]
    gaps = []
    for lr in lrs:
        how = dict(lr=lr, momentum=momentum, decay=1 - momentum)
        ode, _ = conserved.oscillator(torch.tensor(1.0), **how, degree=1)
        gaps.append(float((ode - torch.linalg.matrix_power(matrix(**how), round(1 / lr))[0, 0]).abs()))
    checks.assert_order(lrs, gaps, expected=1, tol=0.05)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="momentum_law: wanted gram"):
        conserved.momentum_law(torch.zeros(3, 2, 2), torch.zeros(2), lr=0.1, momentum=0.9)
    for bad in (dict(lr=0.0), dict(momentum=1.0), dict(decay=-1.0), dict(degree=3), dict(lr=float("nan"))):
        with pytest.raises(ValueError, match="oscillator: bad"):
            conserved.oscillator(torch.zeros(1), **{"lr": 0.1, "momentum": 0.9, "decay": 0.1, "degree": 1} | bad)
