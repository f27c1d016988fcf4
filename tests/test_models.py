"""Torch modules and their axis tables: every symmetry obeys the six laws, every wrong one is refused."""

import copy
import pickle
from dataclasses import replace
from itertools import chain

import pytest
import sympy
import torch
from torch import nn
from torch.func import grad, stack_module_state, vmap

from symlib import architectures, checks, groups, models
from symlib.conserved import charges
from symlib.dynamics import cross_entropy, descend
from symlib.models.parts import along_parts
from symlib.models.parts import behind as behind_a_norm
from symlib.models.transformer import Attention, TransformerLayer
from symlib.symmetry import Symmetry, flatten, from_axes, inner

F64 = torch.float64
PRECISIONS = [pytest.param(F64, id="float64"), pytest.param(torch.float32, id="float32")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


BUILD = {
    "mlp, relu": lambda g: models.MLP((3, 4, 3, 2), "relu", generator=g),
    "mlp, tanh, no bias": lambda g: models.MLP((3, 4, 2), "tanh", bias=False, generator=g),
    "mlp, layer norm": lambda g: models.MLP((3, 4, 3, 2), "relu", norm="layer", generator=g),
    "mlp, batch norm": lambda g: models.MLP((3, 4, 2), "tanh", norm="batch", generator=g),
    "convolutional": lambda g: models.ConvNet((2, 3, 4), 3, size=4, generator=g),
    "convolutional, tanh": lambda g: models.ConvNet((1, 3, 2), 3, size=4, activation="tanh", generator=g),
    "convolutional, two groups": lambda g: models.ConvNet((1, 4, 6), 3, size=4, groups=2, generator=g),
    "convolutional, batch norm": lambda g: models.ConvNet((1, 3, 2), 3, size=4, norm="batch", generator=g),
    "vgg": lambda g: models.VGG(2, ((3,), (4, 2)), 3, size=4, dense=(3,), generator=g),
    "vgg, two groups": lambda g: models.VGG(1, ((4, 6),), 3, size=2, groups=2, activation="tanh", generator=g),
    "vgg, batch norm": lambda g: models.VGG(1, ((3,), (2, 3)), 3, size=8, norm="batch", generator=g),
    "residual, batch norm": lambda g: models.ResNet((1, 2, 3), 1, 3, size=4, norm="batch", generator=g),
    "residual": lambda g: models.ResNet((1, 2, 3), 2, 3, size=4, generator=g),
    "residual, two groups": lambda g: models.ResNet((1, 4, 4), 1, 3, size=4, groups=2, activation="gelu", generator=g),
    "transformer": lambda g: models.VisionTransformer(
        2, 4, 2, 2, 3, size=4, channels=2, key=2, value=1, hidden=3, generator=g
    ),
    "transformer, relu": lambda g: models.VisionTransformer(
        2, 4, 2, 1, 2, size=4, hidden=3, activation="relu", generator=g
    ),
}
ARCHES = {name: build(seeded()).arch for name, build in BUILD.items()}
CASES = [
    pytest.param(arch, sym, id=f"{name}: {sym.name}")
    for name, arch in ARCHES.items()
    for sym in arch.symmetries().values()
]


def behind(family, *norms):
    return {f"{family} behind {n}" for n in norms}


NORMS = ("norm", "layers.0.norm1", "layers.0.norm2")
CHANNELS = ("the norms of c1", "the norms of c2")
KNOWN = {
    "mlp, relu": {"permutation h1", "rescaling h1", "permutation h2", "rescaling h2"},
    "mlp, tanh, no bias": {"permutation h1", "sign flip h1"},
    "mlp, layer norm": {
        *(f"{group} {h}" for group in ("permutation", "translation") for h in ("h1", "h2")),
        *behind("rescaling", "the norm of h1", "the norm of h2"),
    },
    "mlp, batch norm": {"permutation h1", "translation h1", *behind("sign flip", "the norm of h1")},
    "convolutional": {"permutation c1", "permutation c2", *behind("rescaling", *CHANNELS)},
    "convolutional, tanh": {"permutation c1", "permutation c2", *behind("sign flip", *CHANNELS)},
    "convolutional, two groups": {
        *(f"{group} {c}" for group in ("permutation^2", "permutation of groups") for c in ("c1", "c2")),
        *behind("rescaling", *CHANNELS),
    },
    "convolutional, batch norm": {"permutation c1", "permutation c2", *behind("rescaling", *CHANNELS)},
    "vgg": {
        *(f"{group} {c}" for group in ("permutation", "translation") for c in ("c1", "c2", "c3")),
        *behind("rescaling", *CHANNELS, "the norms of c3"),
        "permutation h1",
        "rescaling h1",
    },
    "vgg, two groups": {
        *(f"{g} {c}" for g in ("permutation^2", "permutation of groups", "translation") for c in ("c1", "c2")),
        *behind("sign flip", "the norms of c1"),  # a pooling follows on c2
    },
    "residual": {
        *(f"permutation {s}" for s in ("c1", "c2", "h1", "h2", "h3", "h4")),
        *behind("rescaling", *CHANNELS, *(f"the norms of h{i}" for i in (1, 2, 3, 4))),
    },
    "residual, two groups": {
        f"{group} {s}" for group in ("permutation^2", "permutation of groups") for s in ("c1", "c2", "h1", "h2")
    },
    "transformer, relu": {
        "permutation r",
        "permutation m1",
        "general linear^2 m1 k1",
        "general linear^2 m1 v1",
        "permutation h1",
        "rescaling h1",
        *behind("rescaling", *NORMS),
        *behind("sign flip", *NORMS),
        "translation r",
    },
}


# ---- the laws


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("arch", "sym"), CASES)
def test_the_six_laws(arch, sym, dtype, gen):
    checks.assert_laws(arch, sym, generator=gen, dtype=dtype, draws=2)


@pytest.mark.parametrize("name", KNOWN)
def test_the_symmetries_of_a_model_are_these(name):
    assert set(ARCHES[name].symmetries()) == KNOWN[name]


@pytest.mark.parametrize("name", BUILD)
def test_the_table_names_exactly_the_parameters_and_the_state(name):
    model = BUILD[name](seeded())
    arch, shapes = model.arch, {k: tuple(p.shape) for k, p in model.state_dict().items()}
    assert arch.shapes == shapes and arch.axes.keys() == shapes.keys()
    assert all(len(arch.axes[k]) == len(s) for k, s in shapes.items())
    assert arch.parameters == sum(p.numel() for p in model.parameters())
    assert arch.state == dict(model.named_buffers()).keys() == {k for k in shapes if "running" in k}
    assert bool(arch.state) == ("batch norm" in name)


@pytest.mark.parametrize("name", BUILD)
def test_state_is_drawn_positive(name):
    theta = ARCHES[name].init(seeded(), members=4)
    assert all(bool((theta[k] > 0).all()) for k in ARCHES[name].state)


def test_the_translations_that_norms_take_off_are_counted_by_hand():
    """A LayerNorm: rows and a bias, one number each; a GroupNorm: one a group; a BatchNorm: one a channel."""
    dims = {
        ("mlp, layer norm", "h1"): 3 + 1,
        ("mlp, layer norm", "h2"): 4 + 1,
        ("mlp, batch norm", "h1"): 4,
        ("vgg", "c2"): 1,
        ("vgg, two groups", "c1"): 2,
        ("vgg, batch norm", "c3"): 3,
    }
    for (name, space), dimension in dims.items():
        assert ARCHES[name].symmetries()[f"translation {space}"].group.dimension == dimension


def test_the_orbit_of_keys_longer_than_the_stream_by_hand(gen):
    """W_Q and W_K (3, 2) have rank 2, so the stabiliser in GL(3) has dimension (3 - 2)^2; two heads."""
    model = models.VisionTransformer(2, 2, 2, 1, 2, size=4, key=3, generator=gen)
    sym = model.arch.symmetries()["general linear^2 m1 k1"]
    checks.assert_laws(model.arch, sym, generator=gen, draws=2, dimension=2 * (9 - 1))


def test_the_translations_of_a_stream_are_counted_by_hand():
    """Patch entries and a bias, tokens, and in each of two layers heads x value, hidden units and a bias."""
    sym = ARCHES["transformer"].symmetries()["translation r"]
    assert sym.group.dimension == (2 * 2 * 2 + 1) + 4 + 2 * (2 * 1 + 3 + 1)


# ---- wrong claims


@pytest.mark.parametrize(("arch", "sym"), [c for c in CASES if "translation" not in c.id])
def test_whatever_moves_has_to_move(arch, sym, gen):
    theta, g = arch.init(gen), sym.group.sample(gen)
    moving = [k for k, v in sym(g, theta).items() if not torch.equal(v, theta[k])]
    assert len(moving) >= 2
    for key in moving:
        without = replace(sym, act=lambda element, theta, key=key: {**sym.act(element, theta), key: theta[key]})
        assert not checks.invariance_error(arch, without, generator=gen, draws=3) <= 1e-5, key


def relabelled(name, space, group, **axes):
    """A claim on the axis table with some of its labels changed ("__" for the dot of a name)."""
    arch = ARCHES[name]
    table = {**arch.axes, **{k.replace("__", "."): v for k, v in axes.items()}}
    return arch, from_axes(table, space, group, shapes=arch.shapes)


def claimed(name, space, family):
    return ARCHES[name], ARCHES[name].claim(space, family)


def behind_the_norm(name, space, family):
    arch = ARCHES[name]
    return arch, behind_a_norm(arch.axes, space, family, arch.shapes, "norm")


def bias_alone(name, parts):
    arch = ARCHES[name]
    return arch, along_parts(("layers.0.bias",), "h1", parts, arch.shapes)


def norm_rotated():
    arch = ARCHES["transformer"]
    table = {k: v for k, v in arch.axes.items() if k.startswith(("norm", "head"))}
    return arch, behind_a_norm(table, "r", groups.orthogonal, arch.shapes, "norm")


def one_coordinate_shifted():
    arch = ARCHES["transformer"]

    def act(element, theta):
        first = torch.eye(4, dtype=element.g.dtype)[0]
        return {**theta, "embed.bias": theta["embed.bias"] + element.g[0, 1] * first}

    return arch, Symmetry("translation", groups.translation(1), act, arch.shapes)


GL2 = groups.general_linear(2)
WRONG = {
    "channels without their norm": relabelled(
        "convolutional", "c1", groups.permutation(3), layers__0__norm__weight=(None,), layers__0__norm__bias=(None,)
    ),
    "channels rescaled across a norm": claimed("convolutional", "c1", groups.rescaling),
    "channels rotated": claimed("convolutional", "c1", groups.orthogonal),
    "all permutations with two groups": claimed("convolutional, two groups", "c1", groups.permutation),
    "all permutations of a stream with two groups": claimed("residual, two groups", "c2", groups.permutation),
    "channels without their running mean": relabelled(
        "convolutional, batch norm", "c1", groups.permutation(3), layers__0__norm__running_mean=(None,)
    ),
    "channels without their running variance": relabelled(
        "convolutional, batch norm", "c1", groups.permutation(3), layers__0__norm__running_var=(None,)
    ),
    "channels rescaled across a BatchNorm": claimed("convolutional, batch norm", "c1", groups.rescaling),
    "signs before a pooling": behind_the_norm("vgg, two groups", "c2", groups.sign_flip),
    "a bias without its running mean": bias_alone("mlp, batch norm", 4),
    "a bias before a LayerNorm moved in one unit": bias_alone("mlp, layer norm", 4),
    "hidden units mixed": claimed("mlp, relu", "h1", groups.general_linear),
    "ReLU units flipped": claimed("mlp, relu", "h1", groups.sign_flip),
    "tanh units rescaled": claimed("mlp, tanh, no bias", "h1", groups.rescaling),
    "GELU units rescaled": claimed("transformer", "h1", groups.rescaling),
    "hidden units of a transformer mixed": claimed("transformer", "h1", groups.general_linear),
    "keys not dual": relabelled(
        "transformer", "m1 k1", groups.blocks(GL2, 2), layers__0__attention__W_K=("m1", "k1", "r*")
    ),
    "keys mixed across heads": relabelled("transformer", "m1 k1", groups.general_linear(4)),
    "stream rotated": claimed("transformer", "r", groups.orthogonal),
    "stream rescaled": claimed("transformer", "r", groups.rescaling),
    "LayerNorm rotated": norm_rotated(),
    "one coordinate of the stream shifted": one_coordinate_shifted(),
}


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("arch", "sym"), WRONG.values(), ids=WRONG)
def test_wrong_claims_are_refused(arch, sym, dtype, gen):
    with pytest.raises(AssertionError, match="invariance error") as error:
        checks.assert_laws(arch, sym, generator=gen, dtype=dtype, draws=3)
    assert "effectiveness" not in str(error.value) and "control" not in str(error.value)


def test_the_scale_of_what_enters_a_normalisation_is_a_symmetry_only_without_epsilon(gen):
    model = models.ConvNet((1, 3), 2, size=4, groups=3, generator=gen)
    arch = model.arch
    table = {"layers.0.conv.weight": ("c1", None, None, None)}
    sym = from_axes(table, "c1", groups.rescaling(3), shapes=arch.shapes)
    assert checks.invariance_error(arch, sym, generator=gen) >= 1e-5
    model.layers[0].norm.eps = 0.0
    checks.assert_laws(arch, sym, generator=gen)


# ---- the forward passes


@pytest.mark.parametrize("name", BUILD)
def test_the_architecture_computes_what_the_module_does(name, gen):
    model = BUILD[name](gen).double()
    x = checks.inputs(model.arch, gen, F64, 1.0)
    found = model.arch(model.state_dict(), x)  # whatever the mode, an architecture is in evaluation mode
    assert torch.equal(found, model.eval()(x)) and torch.equal(model.arch(model.state_dict(), x), found)


@pytest.mark.parametrize("name", BUILD)
def test_moved_parameters_load_into_the_module(name, gen):
    model = BUILD[name](gen).double().eval()
    x = checks.inputs(model.arch, gen, F64, 1.0)
    before = model(x)
    for sym in model.arch.symmetries().values():
        model.load_state_dict(sym(sym.group.sample(gen), model.state_dict()))
        assert checks.relative_error(model(x), before) <= 1e-10


@pytest.mark.parametrize("activation", ["relu", "gelu", "linear"])
def test_an_mlp_is_that_of_the_catalogue_with_rows_for_columns(activation, gen):
    model, same = models.MLP((3, 5, 4, 2), activation, generator=gen), architectures.mlp((3, 5, 4, 2), activation)
    theta = same.init(gen)
    rows = {f"layers.{i}.weight": theta[f"W{i + 1}"] for i in range(3)}
    rows |= {f"layers.{i}.bias": theta[f"b{i + 1}"][:, 0] for i in range(3)}
    x = checks.inputs(same, gen, F64, 1.0)
    assert checks.relative_error(model.arch(rows, x.mT), same(theta, x).mT) <= 1e-14


def test_attention_is_that_of_the_catalogue_with_the_scale_in_the_queries(gen):
    attention, same = Attention(4, 3, 2, 5, gen).double(), architectures.multihead_attention(4, 3, 2, 5)
    theta = attention.state_dict()
    x = torch.randn(6, 7, 4, generator=gen, dtype=F64)
    absorbed = {**theta, "W_Q": theta["W_Q"] / 2**0.5}
    for tokens, out in zip(x, attention(x), strict=True):
        assert checks.relative_error(out, same(absorbed, tokens.mT).mT) <= 1e-14


def test_a_transformer_layer_is_that_of_torch(gen):
    d, heads, hidden = 6, 3, 5
    layer = TransformerLayer(d, heads, 2, 2, hidden, "gelu", gen).double()
    for p in layer.parameters():  # norm scales and biases too
        nn.init.normal_(p, generator=gen)
    same = nn.TransformerEncoderLayer(d, heads, hidden, 0.0, "gelu", batch_first=True, norm_first=True, dtype=F64)
    at = layer.attention
    same.load_state_dict({
        "self_attn.in_proj_weight": torch.cat([W.flatten(0, 1) for W in (at.W_Q, at.W_K, at.W_V)]),
        "self_attn.in_proj_bias": torch.zeros(3 * d),
        "self_attn.out_proj.weight": at.W_O.flatten(0, 1).mT,
        "self_attn.out_proj.bias": torch.zeros(d),
        **{k.replace("up.", "linear1.").replace("down.", "linear2."): v
           for k, v in layer.state_dict().items() if "attention" not in k},
    })  # fmt: skip
    x = torch.randn(4, 7, d, generator=gen, dtype=F64)
    assert checks.relative_error(layer(x), same(x)) <= 1e-13


def test_tokens_without_positions_may_come_in_any_order(gen):
    model = models.VisionTransformer(2, 4, 2, 2, 3, size=4, generator=gen).double()
    x = checks.inputs(model.arch, gen, F64, 1.0)
    swapped = x.roll(2, dims=-1)  # the two columns of patches change places
    assert checks.relative_error(model(swapped), model(x)) >= 1e-3
    nn.init.zeros_(model.position)
    assert checks.relative_error(model(swapped), model(x)) <= 1e-13


# ---- as torch modules


@pytest.mark.parametrize("name", BUILD)
def test_the_start_is_seeded_and_leaves_the_global_state_alone(name):
    state = torch.get_rng_state()
    first, same, other = BUILD[name](seeded()), BUILD[name](seeded()), BUILD[name](seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    for k, v in first.state_dict().items():
        assert torch.equal(v, same.state_dict()[k]) and v.dtype == torch.float32 and v.device.type == "cpu"
        if v.ndim > 1:
            assert not torch.equal(v, other.state_dict()[k])
        else:
            assert torch.equal(v, torch.full_like(v, "norm" in k and k.endswith(("weight", "running_var"))))


def test_weights_have_the_variance_of_one_over_the_inputs(gen):
    model = models.VisionTransformer(4, 64, 4, 1, 100, size=32, channels=3, key=32, value=8, hidden=256, generator=gen)
    layer, dense = "layers.0.", models.MLP((400, 100), "relu", generator=gen)
    fans = {"embed.weight": 48, "position": 64, "head.weight": 64, f"{layer}up.weight": 64, f"{layer}down.weight": 256}
    fans |= {f"{layer}attention.{W}": n for W, n in (("W_Q", 64), ("W_K", 64), ("W_V", 64), ("W_O", 32))}
    values = {**model.state_dict(), "dense": dense.state_dict()["layers.0.weight"]}
    for k, n in {**fans, "dense": 400}.items():
        assert abs(float(values[k].std()) * n**0.5 - 1) <= 0.1, k  # more than 2000 numbers: 6 standard errors


@pytest.mark.parametrize("name", BUILD)
def test_a_copy_is_another_network_and_a_state_can_be_read_back(name, gen):
    model, x = BUILD[name](gen).double().eval(), checks.inputs(ARCHES[name], gen, F64, 1.0)
    before = model(x)
    theta = {k: v.clone() for k, v in model.state_dict().items()}
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), before) and twin.arch.shapes == model.arch.shapes
        with torch.no_grad():
            for p in twin.parameters():
                p.mul_(2)
        assert torch.equal(model(x), before) and torch.equal(twin.arch(theta, x), before)
    other = BUILD[name](seeded(7)).double().eval()
    assert not torch.equal(other(x), before)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), before)


@pytest.mark.parametrize("name", BUILD)
def test_members_under_vmap_are_the_networks_one_by_one(name, gen):
    members = [BUILD[name](gen).double().eval() for _ in range(3)]
    arch, (parameters, buffers) = members[0].arch, stack_module_state(members)
    theta = {**parameters, **buffers}
    x = checks.inputs(arch, gen, F64, 1.0)
    together, alone = vmap(arch, (0, None))(theta, x), torch.stack([model(x) for model in members])
    assert checks.relative_error(together, alone) <= 1e-12
    for sym in arch.symmetries().values():  # one element moves every member
        moved = sym(sym.group.sample(gen), {k: v.detach() for k, v in theta.items()})
        assert checks.relative_error(vmap(arch, (0, None))(moved, x), together) <= 1e-10


@pytest.mark.parametrize("name", BUILD)
def test_descent_is_that_of_torch_and_lowers_the_loss(name, gen):
    members = [BUILD[name](gen).double() for _ in range(2)]
    together, theta = vmap(members[0].batch_forward, (0, None)), stack_module_state(members)[0]
    x = checks.inputs(members[0].arch, gen, F64, 1.0)
    labels = torch.randint(2, (len(x),), generator=gen)
    run = descend(lambda theta: cross_entropy(together(theta, x).mT, labels), theta, steps=8, lr=0.05)
    assert bool((run.log["loss"][:, -1] < run.log["loss"][:, 0]).all())
    for m, model in enumerate(members):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
        for k, v in model.named_parameters():
            assert torch.allclose(run.theta[k][m], v, rtol=1e-9, atol=1e-12), k


def test_the_charges_of_a_module_are_conserved_by_gradient_flow(gen):
    """GL(2) on W_Q and W_K has the charges of the symmetric A; <grad Q, grad L> = 0 at any point."""
    arch = vit(activation="relu").arch
    theta, x = arch.init(gen), checks.inputs(arch, gen, F64, 1.0)
    labels = torch.randint(3, (len(x),), generator=gen)
    slope = grad(lambda theta: cross_entropy(arch(theta, x).mT, labels))(theta)
    found = {name: charges(sym) for name, sym in arch.symmetries().items()}
    assert len(found["general linear^2 m1 k1"]) == len(found["general linear^2 m1 v1"]) == 2 * 3
    assert len(found["rescaling h1"]) == 16 and len(found["rescaling behind norm"]) == 4
    for charge in chain(*found.values()):
        along = grad(charge.value)(theta)
        product = inner(along, slope, arch.shapes).abs()
        assert product <= 1e-12 * (flatten(along, arch.shapes).norm() * flatten(slope, arch.shapes).norm())


# ---- wrong arguments


def vit(**changes):
    sizes = {"patch": 2, "dim": 4, "heads": 2, "depth": 1, "classes": 3, "size": 4, "generator": seeded()}
    return models.VisionTransformer(**{**sizes, **changes})


def vgg(**changes):
    sizes = {"channels": 1, "stages": ((2,), (2,)), "classes": 2, "size": 4, "generator": seeded()}
    return models.VGG(**{**sizes, **changes})


REFUSED = {
    "widths": (lambda: models.MLP((3,), "relu", generator=seeded()), "MLP: widths should be at least 2 positive"),
    "width": (lambda: models.MLP((3, 0), "relu", generator=seeded()), r"MLP: widths should be .* got \(3, 0\)"),
    "activation": (lambda: models.MLP((3, 2), "relo", generator=seeded()), "unknown activation 'relo'; known are"),
    "radial": (lambda: models.MLP((3, 2), "radial", generator=seeded()), "MLP: activation 'radial' is not elementwise"),
    "no generator": (lambda: models.MLP((3, 2), "relu", generator=None), "MLP: randomness should come from a torch.G"),
    "a seed": (lambda: vit(generator=0), "VisionTransformer: randomness should come from a torch.Generator, got 0"),
    "norm": (lambda: models.MLP((3, 4, 2), "relu", norm="group", generator=seeded()), "unknown norm of an MLP 'group'"),
    "conv norm": (
        lambda: models.ConvNet((1, 4), 2, size=4, norm="layer", generator=seeded()),
        "unknown norm of a ConvNet 'layer'; known are group, batch",
    ),
    "batch norm with groups": (
        lambda: models.ResNet((1, 4), 1, 2, size=4, norm="batch", groups=2, generator=seeded()),
        "ResNet: a BatchNorm has no groups, got groups=2",
    ),
    "no stages": (lambda: vgg(stages=()), "VGG: channels and stages should be at least 2 positive"),
    "an empty stage": (lambda: vgg(stages=((2,), ())), "VGG: stage 2 should be at least 1 positive"),
    "poolings": (lambda: vgg(size=6), "VGG: poolings and size: 4 should divide 6"),
    "a dense width": (lambda: vgg(dense=(0,)), "VGG: dense should be at least 0 positive"),
    "vgg seed": (lambda: vgg(generator=None), "VGG: randomness should come from"),
    "patch": (lambda: vit(patch=3), "VisionTransformer: patch and size: 3 should divide 4"),
    "heads": (lambda: vit(heads=3), "VisionTransformer: heads and dim: 3 should divide 4"),
    "depth": (lambda: vit(depth=0), r"VisionTransformer: \(patch, dim, heads, depth, classes, size, channels\) should"),
    "key": (lambda: vit(key=0), r"VisionTransformer: \(key, value, hidden\) should be 3 positive"),
    "softmax": (lambda: vit(activation="softmax"), "VisionTransformer: activation 'softmax' is not elementwise"),
    "channels": (lambda: models.ConvNet((1,), 2, size=4, generator=seeded()), "ConvNet: channels should be at least 2"),
    "groups": (
        lambda: models.ConvNet((1, 4, 5), 2, size=4, groups=2, generator=seeded()),
        "groups and channels: 2 should divide 5",
    ),
    "conv size": (lambda: models.ConvNet((1, 4), 2, size=0, generator=seeded()), r"ConvNet: \(classes, size, groups\)"),
    "conv seed": (lambda: models.ConvNet((1, 4), 2, size=4, generator=None), "ConvNet: randomness should come from"),
    "blocks": (lambda: models.ResNet((1, 4), 0, 2, size=4, generator=seeded()), r"ResNet: \(blocks, classes, size, gr"),
    "residual seed": (lambda: models.ResNet((1, 4), 1, 2, size=4, generator=None), "ResNet: randomness should come fr"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_wrong_inputs_and_parameters_are_refused(gen):
    arch = vit().arch
    theta, x = arch.init(gen), checks.inputs(arch, gen, F64, 1.0)
    with pytest.raises(ValueError, match=r"vision transformer .*: the input should have shape \('n', 1, 4, 4\), got"):
        arch(theta, x.flatten(1))
    with pytest.raises(ValueError, match=r"missing \['position'\]"):
        arch({k: v for k, v in theta.items() if k != "position"}, x)
    with pytest.raises(ValueError, match="the input has dtype"):
        arch(theta, x.float())
    with pytest.raises(TypeError, match="a module takes tensors; proofs are for"):
        arch(theta, sympy.eye(2))
    with pytest.raises(ValueError, match="no axis is labelled 'c9'"):
        behind_a_norm(arch.axes, "c9", groups.rescaling, arch.shapes, "norm")
