"""Any module by an axis table: a right one gives the architecture, a wrong one is refused with the worst parameter."""

import copy

import pytest
import torch
from torch import nn

from symlib import checks, groups, models
from symlib.conserved import charges
from symlib.models import labelled

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def redrawn(module, seed=0):
    """From a generator, where torch's layers draw from the global one; norms stay as they are."""
    for p in module.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=p[0].numel() ** -0.5, generator=seeded(seed))
    return module


class Net(nn.Module):
    """Written like the networks of torchvision: BatchNorm with its count of batches, dropout, flatten, a mask."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.ReLU(inplace=True),
        )
        self.avgpool, self.dropout = nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5)
        self.fc = nn.Linear(5, 3)
        self.register_buffer("offset", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x):
        return self.fc(self.dropout(torch.flatten(self.avgpool(self.features(x)), 1))) + self.offset


def norm(name, space):
    return {f"{name}.{part}": (space,) for part in ("weight", "bias", "running_mean", "running_var")}


def perceptron():
    return redrawn(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))


MLP = {"0.weight": ("h1", "x"), "0.bias": ("h1",), "2.weight": ("h2", "h1*"), "2.bias": ("h2",),
       "4.weight": ("y", "h2*"), "4.bias": ("y",)}  # fmt: skip
CONV = {
    "features.0.weight": ("c1", None, None, None),
    **norm("features.1", "c1"),
    "features.4.weight": ("c2", "c1*", None, None),
    "features.4.bias": ("c2",),
    **norm("features.5", "c2"),
    "fc.weight": (None, "c2*"),
    "fc.bias": (None,),
    "offset": (None,),
}
RELU, SUM = {"h1": "relu", "h2": "relu"}, {"c1": "sum", "c2": "sum"}


def believed(change=None, kinds=None, *, module=None, base=MLP, less=(), inputs=(None, 3), seed=1):
    """The table with some labels changed and some keys taken out."""
    table = {k: v for k, v in {**base, **(change or {})}.items() if k not in less}
    return labelled(module or perceptron(), table, kinds or RELU, inputs=inputs, generator=seeded(seed))


def pictured(change=None, kinds=None, **more):
    return believed(change, kinds or SUM, module=redrawn(Net()), base=CONV, inputs=(None, 2, 4, 4), **more)


# ---- right


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_a_perceptron_has_the_symmetries_of_ours(activation, gen):
    layer = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}[activation]()
    module = redrawn(nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 4), layer, nn.Linear(4, 2)))
    arch = believed(None, dict.fromkeys(RELU, activation), module=module)
    same = models.MLP((3, 4, 4, 2), activation, generator=gen).arch
    names = {k: f"layers.{int(k[0]) // 2}{k[1:]}" for k in MLP}
    assert arch.symmetries().keys() == same.symmetries().keys() and not arch.state
    assert {names[k]: v for k, v in arch.shapes.items()} == same.shapes
    theta, x = arch.init(gen), torch.randn(5, 3, generator=gen, dtype=F64)
    assert torch.equal(arch(theta, x), same({names[k]: v for k, v in theta.items()}, x))
    for sym in arch.symmetries().values():
        checks.assert_laws(arch, sym, generator=gen, draws=2)
    assert len(charges(arch.claim("h1", groups.rescaling))) == 4


def test_a_network_of_torchvision_has_its_channels_permuted(gen):
    module = redrawn(Net()).double()
    before = copy.deepcopy(module.state_dict())
    arch = labelled(module, CONV, SUM, inputs=(None, 2, 4, 4), generator=gen, name="two convolutions")
    assert arch.name == "two convolutions" and list(arch.symmetries()) == ["permutation c1", "permutation c2"]
    buffers = {k for k, _ in module.named_buffers()}
    assert arch.state == {k for k in buffers if "tracked" not in k} and len(arch.state) == 5
    assert arch.parameters == sum(p.numel() for p in module.parameters())
    theta = {k: module.state_dict()[k] for k in arch.shapes}
    x = torch.randn(3, 2, 4, 4, generator=gen, dtype=F64)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items()) and module.training
    module.eval()
    for sym in arch.symmetries().values():
        checks.assert_laws(arch, sym, generator=gen, draws=2)
        moved = sym(sym.group.sample(gen), theta)
        assert checks.relative_error(arch(moved, x), module(x)) <= 1e-13
        with torch.no_grad():
            module.load_state_dict({**module.state_dict(), **moved})
        assert checks.relative_error(module(x), arch(theta, x)) <= 1e-13


def test_a_later_change_of_the_module_does_not_reach_the_architecture(gen):
    module = perceptron()
    arch = believed(module=module)
    theta, x = arch.init(gen), torch.randn(5, 3, generator=gen, dtype=F64)
    before = arch(theta, x)
    module[1] = nn.Tanh()
    assert torch.equal(arch(theta, x), before)


def test_heads_of_attention_and_what_acts_in_each():
    """A space of two neighbouring axes: GL in each head."""
    module = models.VisionTransformer(2, 4, 2, 1, 3, size=4, key=2, value=1, hidden=3, generator=seeded())
    arch, shape = module.arch, (None, 1, 4, 4)
    kinds = {**arch.activations}
    same = labelled(module, arch.axes, kinds, inputs=shape, generator=seeded(1))
    assert same.symmetries().keys() == {k for k in arch.symmetries() if "behind" not in k and "translation" not in k}
    wrong = {**arch.axes, "layers.0.attention.W_K": ("m1", "k1", "r*")}
    at = r"general linear\^2 m1 k1 changes .* worst parameter is layers.0.attention.W_[QK], labelled \(m1 k1"
    with pytest.raises(ValueError, match=at):
        labelled(module, wrong, kinds, inputs=shape, generator=seeded(1))


# ---- wrong


REFUSED = {
    "a bias without its label": (
        lambda: believed({"2.bias": (None,)}),
        r"permutation h2 changes the output by .*; the worst parameter is 2.bias, labelled \(.\): with \(h2\) it would",
    ),
    "a bias with a label too many": (
        lambda: believed({"2.bias": ("h1",)}),
        r"permutation h1 changes .* the worst parameter is 2.bias, labelled \(h1\): with \(.\) it would be .*e-1|0$",
    ),
    "spaces that changed places": (
        lambda: believed({"2.weight": ("h1", "h2*")}),
        r"permutation h1 changes .* the worst parameter is 2.weight, labelled \(h1 h2\*\): with \(. h1\)",
    ),
    "no dual": (
        lambda: believed({"2.weight": ("h2", "h1")}),
        r"rescaling h1 changes .* worst parameter is 2.weight, labelled \(h2 h1\): with \(h2 h1\*\)",
    ),
    "what does not read": (lambda: believed({"4.weight": ("y", None)}), r"permutation h2 .* is 4.weight, labelled \(y"),
    "another activation": (lambda: believed(None, {**RELU, "h1": "tanh"}), "sign flip h1 changes the output by"),
    "a group too large": (lambda: believed(None, {**RELU, "h2": "radial"}), "orthogonal h2 changes the output by"),
    "no running mean": (
        lambda: pictured({"features.1.running_mean": (None,)}),
        r"permutation c1 .* the worst parameter is features.1.running_mean, labelled \(.\): with \(c1\)",
    ),
    "no running variance": (
        lambda: pictured({"features.5.running_var": (None,)}),
        r"permutation c2 .* the worst parameter is features.5.running_var, labelled \(.\): with \(c2\)",
    ),
    "no shift of a norm": (lambda: pictured({"features.1.bias": (None,)}), "the worst parameter is features.1.bias"),
    "scales across a norm": (lambda: pictured(None, {**SUM, "c1": "relu"}), "rescaling c1 changes the output by"),
    "a name that is none": (
        lambda: believed({"5.weight": ("h2",)}),
        "axis table of Sequential: lacks nothing, names 5.weight that the module does not have",
    ),
    "a name left out": (lambda: believed(less=("2.bias", "4.bias")), "lacks 2.bias, 4.bias, names nothing"),
    "a buffer left out": (lambda: pictured(less=("offset",)), "axis table of Net: lacks offset, names nothing"),
    "a count of batches": (
        lambda: pictured({"features.1.num_batches_tracked": ()}),
        "names features.1.num_batches_tracked that the module does not have",
    ),
    "too few labels": (lambda: believed({"2.weight": ("h2",)}), r"2.weight of shape \(4, 4\) has the labels \('h2',\)"),
    "one text": (lambda: believed({"2.weight": "h2"}), r"2.weight of shape \(4, 4\) has the labels 'h2'"),
    "two sizes": (
        lambda: believed({"4.bias": ("h1",)}),
        "the space 'h1' has several sizes, 4 in 0.weight, 2 in 4.bias",
    ),
    "a space without labels": (lambda: believed(None, {"h3": "relu"}), "no axis is labelled 'h3'; spaces are h1, x"),
    "an empty space": (lambda: believed(None, {"": "relu"}), "no axis is labelled ''"),
    "an unknown activation": (lambda: believed(None, {"h1": "relo"}), "unknown activation 'relo'; known are linear"),
    "no generator": (
        lambda: labelled(perceptron(), MLP, RELU, inputs=(None, 3), generator=None),
        "labelled Sequential: randomness should come from a torch.Generator",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_tables_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Blind(nn.Module):
    """The hidden units are computed, and multiplied by `weight`."""

    def __init__(self, weight):
        super().__init__()
        self.up, self.down, self.weight = nn.Linear(3, 4), nn.Linear(4, 2), weight
        self.skip = nn.Linear(3, 2)

    def forward(self, x):
        return self.skip(x) + self.weight * self.down(torch.relu(self.up(x)))


BLIND = {"up.weight": ("h", "x"), "up.bias": ("h",), "down.weight": ("y", "h*"), "down.bias": ("y",),
         "skip.weight": ("y", "x"), "skip.bias": ("y",)}  # fmt: skip


def test_a_space_that_the_output_does_not_see_is_not_believed():
    seen = believed(None, {"h": "relu"}, module=redrawn(Blind(1.0)), base=BLIND)
    assert len(seen.symmetries()) == 2
    with pytest.raises(ValueError, match="axis table of Blind: the output does not depend on the space 'h'"):
        believed(None, {"h": "relu"}, module=redrawn(Blind(0.0)), base=BLIND)


def test_an_output_that_is_not_a_number_is_not_believed():
    with pytest.raises(ValueError, match="axis table of Blind: permutation h changes the output by nan"):
        believed(None, {"h": "relu"}, module=redrawn(Blind(torch.nan)), base=BLIND)


@pytest.mark.parametrize("key", MLP)
def test_no_single_label_can_be_left_out(key):
    for i, label in enumerate(MLP[key]):
        if label.startswith("h"):
            less = tuple(None if j == i else a for j, a in enumerate(MLP[key]))
            with pytest.raises(ValueError, match=rf"changes the output by .* the worst parameter is {key}, labelled"):
                believed({key: less})
