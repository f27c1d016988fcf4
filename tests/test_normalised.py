"""Perceptrons with LayerNorm: what acts on them, proved, and what does not, refuted."""

import pytest
import sympy
import torch
from torch.func import grad

from symlib import architectures, checks, groups, models, ops, proofs
from symlib.architectures import mlp
from symlib.conserved import charges
from symlib.groups import Elem
from symlib.symmetry import Symmetry, flatten, from_axes, inner

F64 = torch.float64
PRECISIONS = [pytest.param(F64, id="float64"), pytest.param(torch.float32, id="float32")]
ARCHES = {
    "gelu": mlp((3, 5, 4, 2), "gelu", norm=True),
    "silu, no bias": mlp((2, 4, 1), "silu", bias=False, norm=True),
}
SMALL = mlp((2, 2, 1), "gelu", norm=True)
KNOWN = {
    "gelu": [
        "permutation h1",
        "permutation h2",
        "translation W1",
        "translation b1",
        "translation W2",
        "translation b2",
    ],
    "silu, no bias": ["permutation h1", "translation W1"],
}
CASES = [
    pytest.param(arch, sym, id=f"{name}: {sym.name}")
    for name, arch in ARCHES.items()
    for sym in arch.symmetries().values()
]


# ---- right


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("arch", "sym"), CASES)
def test_the_six_laws(arch, sym, dtype, gen):
    checks.assert_laws(arch, sym, generator=gen, dtype=dtype)


@pytest.mark.parametrize("name", KNOWN)
def test_the_symmetries_are_these(name):
    assert list(ARCHES[name].symmetries()) == KNOWN[name]


def test_the_translations_have_the_dimension_of_what_reads():
    found = {k: s.group.dimension for k, s in ARCHES["gelu"].symmetries().items() if "translation" in k}
    assert found == {"translation W1": 3, "translation b1": 1, "translation W2": 5, "translation b2": 1}


@pytest.mark.parametrize("name", ["permutation h1", "translation W1", "translation b1"])
def test_they_are_proved(name):
    proof = proofs.invariance(SMALL, SMALL.symmetries()[name]).require("proved")
    assert proof.method == ("exhaustive" if "permutation" in name else "symbolic")


def test_the_formula_that_is_proved_is_the_code_that_trains(gen):
    theta, x = SMALL.init(gen), torch.randn(2, 1, generator=gen, dtype=F64)
    matrix = lambda v: sympy.ImmutableMatrix(v.shape[0], v.shape[1], [sympy.Float(e, 20) for e in v.flatten().tolist()])  # noqa: E731
    formula = SMALL({k: matrix(v) for k, v in theta.items()}, matrix(x))
    assert abs(float(formula[0, 0]) - float(SMALL(theta, x))) <= 1e-13


def test_the_norm_is_that_of_torch_on_columns(gen):
    z, s, t = (torch.randn(n, m, generator=gen, dtype=F64) for n, m in ((5, 7), (5, 1), (5, 1)))
    same = torch.nn.functional.layer_norm(z.mT, (5,), s[:, 0], t[:, 0]).mT
    assert checks.relative_error(ops.times(ops.standardise(z), s) + t, same) <= 1e-14


def test_the_network_is_that_of_the_modules_with_rows_for_columns(gen):
    arch, model = ARCHES["gelu"], models.MLP((3, 5, 4, 2), "gelu", norm="layer", generator=gen)
    theta, x = arch.init(gen), torch.randn(3, 6, generator=gen, dtype=F64)
    names = {f"layers.{i}.{k}": f"{v}{i + 1}" for i in range(3) for k, v in (("weight", "W"), ("bias", "b"))}
    names |= {f"norms.{i}.{k}": f"{v}{i + 1}" for i in range(2) for k, v in (("weight", "s"), ("bias", "t"))}
    rows = {k: theta[v] if v[0] == "W" else theta[v][:, 0] for k, v in names.items()}
    assert checks.relative_error(model.arch(rows, x.mT), arch(theta, x).mT) <= 1e-14
    dims = lambda arch: sum(s.group.dimension for s in arch.symmetries().values())  # noqa: E731
    assert dims(model.arch) == dims(arch) == 3 + 1 + 5 + 1


def test_members_are_one_product(gen):
    arch = ARCHES["gelu"]
    theta, x = arch.init(gen, members=3), torch.randn(3, 6, generator=gen, dtype=F64)
    alone = torch.stack([arch({k: v[i] for k, v in theta.items()}, x) for i in range(3)])
    assert checks.relative_error(arch(theta, x), alone) <= 1e-14


def test_the_column_sums_are_conserved(gen):
    """What a translation moves is a linear charge: the sums of W over the units, which gradient flow keeps."""
    arch = ARCHES["gelu"]
    theta, x = arch.init(gen), torch.randn(3, 6, generator=gen, dtype=F64)
    slope = grad(lambda theta: arch(theta, x).sin().sum())(theta)
    found = charges(arch.symmetries()["translation W1"])
    assert len(found) == 3
    for charge in found:
        along = grad(charge.value)(theta)
        size = flatten(along, arch.shapes).norm() * flatten(slope, arch.shapes).norm()
        assert inner(along, slope, arch.shapes).abs() <= 1e-13 * size
    values = torch.stack([charge.value(theta) for charge in found]).sort().values
    assert torch.allclose(values, theta["W1"].sum(dim=0).sort().values)


# ---- wrong


def one_row(arch):
    """A translation of the first row alone."""

    def act(element, theta):
        first = torch.eye(arch.shapes["W1"][0], dtype=element.g.dtype)[:, :1]
        return {**theta, "W1": theta["W1"] + first @ element.g[:-1, -1:].mT}

    return Symmetry("translation of a row", groups.translation(arch.shapes["W1"][1]), act, arch.shapes)


def relabelled(arch, **labels):
    return from_axes({**arch.axes, **labels}, "h1", groups.permutation(5), shapes=arch.shapes)


WRONG = {
    "scales": lambda arch: arch.claim("h1", groups.rescaling),
    "signs": lambda arch: arch.claim("h1", groups.sign_flip),
    "rotations": lambda arch: arch.claim("h1", groups.orthogonal),
    "permutations without the scales": lambda arch: relabelled(arch, s1=(None, None)),
    "permutations without the shifts": lambda arch: relabelled(arch, t1=(None, None)),
    "one row": one_row,
}


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_claims_are_refused(wrong, dtype, gen):
    arch = ARCHES["gelu"]
    with pytest.raises(AssertionError, match="invariance error") as error:
        checks.assert_laws(arch, wrong(arch), generator=gen, dtype=dtype, draws=3)
    assert "effectiveness" not in str(error.value) and "control" not in str(error.value)


@pytest.mark.parametrize("family", [groups.rescaling, groups.sign_flip], ids=["scales", "signs"])
def test_wrong_claims_are_refuted_with_a_witness(family):
    proof = proofs.invariance(SMALL, SMALL.claim("h1", family)).require("refuted")
    assert "f(theta, x) = " in proof.witness


def test_the_scale_of_what_enters_a_norm_is_a_symmetry_only_without_epsilon(gen, monkeypatch):
    arch = ARCHES["gelu"]

    def act(element: Elem, theta):
        return {**theta, **{k: element.g[0, 0] * theta[k] for k in ("W1", "b1")}}

    sym = Symmetry("scale", groups.rescaling(1), act, arch.shapes)
    assert checks.invariance_error(arch, sym, generator=gen) >= 1e-6
    monkeypatch.setattr(ops, "EPSILON", sympy.Integer(0))
    checks.assert_laws(arch, sym, generator=gen)


@pytest.mark.parametrize("activation", ["relu", "tanh", "leaky-relu", "linear", "radial", "power-2", "power-3"])
def test_a_norm_before_an_activation_with_more_than_permutations_is_refused(activation):
    message = rf"mlp: with norm the activation should commute with permutations only, '{activation}' does not"
    with pytest.raises(ValueError, match=message):
        mlp((2, 3, 1), activation, norm=True)


def test_unknown_activations_are_named_as_ever():
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        architectures.mlp((2, 3, 1), "swish", norm=True)
