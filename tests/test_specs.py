"""The axis tables of git-re-basin, typed as rules in its own convention: ours are the same, and both are tested.

Source: Ainsworth et al., arXiv 2209.04836; samuela/git-re-basin at ef40098, src/weight_matching.py.  There a kernel is
(..., in, out); a dense or convolutional weight of ours is (out, in, ...).  Every table is believed only after
`models.labelled` has tested it in float64, and mutants of it have been refused.
"""

from collections import Counter
from itertools import chain

import pytest
import torch
from torch import nn

from symlib import models
from symlib.models import labelled


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- the tables, by rule: name -> labels, kernels as (..., in, out)


def dense(name, source, target):
    return {f"{name}/kernel": (source, target), f"{name}/bias": (target,)}


def conv(name, source, target):
    return {f"{name}/kernel": (None, None, source, target)}


def norm(name, space):
    return {f"{name}/scale": (space,), f"{name}/bias": (space,)}


def mlp(hidden):
    spaces = [None, *(f"P_{i}" for i in range(hidden)), None]
    return dict(chain(*(dense(f"Dense_{i}", spaces[i], spaces[i + 1]).items() for i in range(hidden + 1))))


def vgg16():
    table = {}
    for i in range(13):
        space = f"P_Conv_{i}"
        table |= conv(f"Conv_{i}", f"P_Conv_{i - 1}" if i else None, space) | {f"Conv_{i}/bias": (space,)}
        table |= norm(f"LayerNorm_{i}", space)
    table |= dense("Dense_0", "P_Conv_12", "P_Dense_0") | dense("Dense_1", "P_Dense_0", "P_Dense_1")
    return table | dense("Dense_2", "P_Dense_1", None)


def resnet20():
    table, stream = conv("stem", None, "P_g0") | norm("stem_norm", "P_g0"), "P_g0"
    for g in range(3):
        for b in range(3):
            at, target = f"g{g}/b{b}", f"P_g{g}"
            table |= conv(f"{at}/c1", stream, f"{at}/in") | norm(f"{at}/n1", f"{at}/in")
            table |= conv(f"{at}/c2", f"{at}/in", target) | norm(f"{at}/n2", target)
            table |= conv(f"{at}/sc", stream, target) | norm(f"{at}/scn", target) if stream != target else {}
            stream = target
    return table | dense("dense", stream, None)


def resnet50():
    """Bottlenecks 1-3-1, in each first block a projection; the stem has a space of its own."""
    table, stream = conv("stem", None, "P_stem") | norm("stem_norm", "P_stem"), "P_stem"
    for g, blocks in enumerate((3, 4, 6, 3)):
        for b in range(blocks):
            at, target = f"g{g}/b{b}", f"P_g{g}"
            for i, (source, sink) in enumerate(((stream, f"{at}/1"), (f"{at}/1", f"{at}/2"), (f"{at}/2", target)), 1):
                table |= conv(f"{at}/c{i}", source, sink) | norm(f"{at}/n{i}", sink)
            table |= conv(f"{at}/sc", stream, target) | norm(f"{at}/scn", target) if stream != target else {}
            stream = target
    return table | dense("dense", stream, None)


# ---- the networks, narrow ones of the same layout, and the names of their parameters in the tables


class Bottleneck(nn.Module):
    def __init__(self, n, inner, m):
        super().__init__()
        widths = (n, inner, inner, m)
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], (1, 3, 1)[i], padding=i % 2, bias=False) for i in range(3)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths[1:])
        self.skip = nn.Sequential(nn.Conv2d(n, m, 1, bias=False), nn.BatchNorm2d(m)) if n != m else nn.Identity()

    def forward(self, x):
        z = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            z = norm(conv(z if i == 0 else torch.relu(z)))
        return torch.relu(self.skip(x) + z)


class ResNet50(nn.Module):
    """The layout of ResNet50, a few channels wide, without strides."""

    def __init__(self, generator):
        super().__init__()
        self.stem, self.norm, n = nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), 2
        self.blocks = nn.ModuleList()
        for m, count in ((4, 3), (5, 4), (6, 6), (4, 3)):
            for _ in range(count):
                self.blocks.append(Bottleneck(n, 2, m))
                n = m
        self.head = nn.Linear(n, 3)
        for p in self.parameters():
            if p.ndim > 1:  # the norms stay at 1 and 0
                nn.init.normal_(p, std=p[0].numel() ** -0.5, generator=generator)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=(-2, -1)))


def own_resnet(norm):
    return lambda g: models.ResNet((1, 3, 4, 5), 3, 3, size=4, norm=norm, generator=g)


def own_vgg(norm):
    stages = ((2, 3), (3, 2), (3, 4, 3), (2, 3, 4), (3, 3, 3))
    return lambda g: models.VGG(1, stages, 3, size=32, dense=(4, 3), norm=norm, generator=g)


def own_mlp(*widths):
    return lambda g: models.MLP(widths, "gelu", generator=g)


def block(at, ours, parts):
    return {f"{ours}.{part}": f"{at}/{name}" for part, name in parts.items()}


STEM = {"stem.conv": "stem", "stem.norm": "stem_norm", "head": "dense"}
PARTS = {
    f"{part}.{kind}": f"{kind[0]}{i}" for i, part in enumerate(("first", "second"), 1) for kind in ("conv", "norm")
}
SKIP = {"skip.conv": "sc", "skip.norm": "scn"}
BOTTLENECK = {f"{kind}s.{i}": f"{kind[0]}{i + 1}" for kind in ("conv", "norm") for i in range(3)}
NAMES = {  # a module of ours -> its name in the table
    "vgg16": {
        **{f"layers.{i}.conv": f"Conv_{i}" for i in range(13)},
        **{f"layers.{i}.norm": f"LayerNorm_{i}" for i in range(13)},
        **{"dense.0": "Dense_0", "dense.1": "Dense_1", "head": "Dense_2"},
    },
    "resnet20": {
        **STEM,
        **dict(chain(*(block(f"g{i // 3}/b{i % 3}", f"layers.{i}", PARTS).items() for i in range(9)))),
        **dict(chain(*(block(f"g{g}/b0", f"layers.{3 * g}", SKIP).items() for g in (1, 2)))),
    },
    "resnet50": {
        **{"stem": "stem", "norm": "stem_norm", "head": "dense"},
        **dict(chain(*(block(at, f"blocks.{i}", BOTTLENECK).items() for i, at in enumerate(
            f"g{g}/b{b}" for g, blocks in enumerate((3, 4, 6, 3)) for b in range(blocks))))),
        **dict(chain(*(block(f"g{g}/b0", f"blocks.{i}", {"skip.0": "sc", "skip.1": "scn"}).items()
                       for g, i in enumerate((0, 3, 7, 13))))),
    },
}  # fmt: skip
LAYOUTS = {  # the table, its tensors and permutations as published, networks of the layout
    "mlp_1_hidden": (mlp(1), 4, {"P_0": 3}, {"ours": own_mlp(3, 4, 2)}),
    "mlp_3_hidden": (mlp(3), 8, {"P_0": 3, "P_1": 3, "P_2": 3}, {"ours": own_mlp(3, 4, 4, 5, 2)}),
    "vgg16": (
        vgg16(),
        58,
        {**{f"P_Conv_{i}": 5 for i in range(13)}, "P_Dense_0": 3, "P_Dense_1": 3},
        {"group norm": own_vgg("group"), "batch norm": own_vgg("batch")},
    ),
    "resnet20": (
        resnet20(),
        65,
        {"P_g0": 17, "P_g1": 16, "P_g2": 15, **{f"g{g}/b{b}/in": 4 for g in range(3) for b in range(3)}},
        {"group norm": own_resnet("group"), "batch norm": own_resnet("batch")},
    ),
    "resnet50": (resnet50(), 161, None, {"batch norm": ResNet50}),
}
NETWORKS = [
    pytest.param(layout, build, id=f"{layout}, {kind}")
    for layout, (*_, networks) in LAYOUTS.items()
    for kind, build in networks.items()
]


def translated(layout, model, table=None):
    """A table with our names and our order of axes, and the space of the scale on running statistics."""
    table, places = LAYOUTS[layout][0] if table is None else table, NAMES.get(layout)
    places = places or {f"layers.{i}": f"Dense_{i}" for i in range(9)}
    out = {}
    for key, value in model.state_dict().items():
        name, _, part = key.rpartition(".")
        if part == "weight" and value.ndim > 1:
            *window, source, target = table[f"{places[name]}/kernel"]
            out[key] = (target, source, *window)
        elif value.is_floating_point():
            out[key] = table[f"{places[name]}/{'bias' if part == 'bias' else 'scale'}"]
    assert len({k for k in out if "running" not in k}) == len(table)
    return out


def spaces(table):
    return {a: "sum" for labels in table.values() for a in labels if a}


def believed(layout, build, change=lambda table: table):
    model = build(seeded())
    table = change(LAYOUTS[layout][0])
    inputs = (None, 3) if "mlp" in layout else (None, 1, *(2 * ((32 if layout == "vgg16" else 4),)))
    axes = translated(layout, model, table)
    return labelled(model, axes, spaces(axes), inputs=inputs, generator=seeded(1), name=layout)


# ---- right


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_rules_give_the_tables_of_the_source(layout):
    table, tensors, carried, _ = LAYOUTS[layout]
    found = Counter(a for a in chain(*table.values()) if a)
    assert len(table) == tensors
    assert found == carried if carried else len(found) == 37


@pytest.mark.parametrize(("layout", "build"), NETWORKS)
def test_the_table_leaves_the_network_as_it_is(layout, build):
    arch = believed(layout, build)
    assert len(arch.shapes) - len(arch.state) == LAYOUTS[layout][1]
    assert len(arch.symmetries()) == len(spaces(LAYOUTS[layout][0]))


@pytest.mark.parametrize(("layout", "build"), [n for n in NETWORKS if "resnet50" not in n.id])
def test_ours_is_the_same_up_to_the_names_of_the_spaces(layout, build):
    model = build(seeded())
    ours, theirs, same = model.arch.axes, translated(layout, model), {}
    assert ours.keys() == theirs.keys()
    for k, labels in ours.items():
        for a, b in zip(labels, theirs[k], strict=True):
            hidden = a is not None and a not in ("x", "y")
            assert hidden == (b is not None)
            assert not hidden or same.setdefault(a.rstrip("*"), b) == b
    assert len(set(same.values())) == len(same) == len(spaces(theirs))


FULL = {
    "vgg16": lambda g: models.VGG(3, models.VGG16, 10, size=32, dense=(512, 512), generator=g),
    "resnet20": lambda g: models.ResNet((3, 16, 32, 64), 3, 10, size=32, generator=g),
}


@pytest.mark.parametrize("layout", FULL)
def test_at_its_published_width_ours_has_the_published_counts(layout, gen):
    _, tensors, carried, _ = LAYOUTS[layout]
    arch = FULL[layout](gen).arch
    found = Counter(a.rstrip("*") for a in chain(*arch.axes.values()) if a and a not in ("x", "y"))
    assert len(arch.shapes) == tensors and found.keys() == arch.activations.keys()
    assert sorted(found.values()) == sorted(carried.values())


# ---- wrong: each mutant of a table is refused


def relabelled(**changes):
    """Some labels changed ("__" for the stroke of a name, "__0" and so on are axes)."""
    return lambda table: {**table, **{k.replace("__", "/"): v for k, v in changes.items()}}


def dropped(key, axis):
    return lambda table: {**table, key: tuple(None if i == axis else a for i, a in enumerate(table[key]))}


def swapped(one, other):
    """Two spaces change places in the kernels that read them."""
    turn = {one: other, other: one}
    return lambda t: {k: (*v[:-2], turn.get(v[-2], v[-2]), v[-1]) if "kernel" in k else v for k, v in t.items()}


WRONG = {
    ("mlp_1_hidden", "ours"): {
        **{f"no label on {k}": (dropped(k, i), k) for k, i in (("Dense_0/kernel", 1), ("Dense_0/bias", 0))},
        "no label on what reads": (dropped("Dense_1/kernel", 0), "Dense_1/kernel"),
    },
    ("mlp_3_hidden", "ours"): {
        "spaces change places": (swapped("P_0", "P_1"), ""),
        "a bias of the neighbour": (relabelled(Dense_0__bias=("P_1",)), "Dense_0/bias"),
        "no bias": (dropped("Dense_2/bias", 0), "Dense_2/bias"),
    },
    ("vgg16", "group norm"): {
        "no bias of a convolution": (dropped("Conv_4/bias", 0), "Conv_4/bias"),
        "no scale of a norm": (dropped("LayerNorm_7/scale", 0), "LayerNorm_7/scale"),
    },
    ("vgg16", "batch norm"): {"no scale and no statistics": (dropped("LayerNorm_2/scale", 0), "")},
    ("resnet20", "group norm"): {
        "a block with a stream of its own": (dropped("g0/b1/c2/kernel", 3), "g0/b1/c2/kernel"),
        "no projection": (dropped("g1/b0/sc/kernel", 3), "g1/b0/sc/kernel"),
    },
    ("resnet20", "batch norm"): {
        "no shift": (dropped("g2/b1/n2/bias", 0), "g2/b1/n2/bias"),
        "the stem is apart": (dropped("stem/kernel", 3), "stem/kernel"),
    },
    ("resnet50", "batch norm"): {"no projection": (dropped("g1/b0/sc/kernel", 3), "g1/b0/sc/kernel")},
}


@pytest.mark.parametrize(
    ("layout", "kind", "change", "worst"),
    [pytest.param(*at, *found, id=f"{at[0]}, {name}") for at, many in WRONG.items() for name, found in many.items()],
)
def test_a_wrong_table_is_refused_and_the_worst_parameter_named(layout, kind, change, worst):
    build, names = LAYOUTS[layout][-1][kind], {v: k for k, v in NAMES.get(layout, {}).items()}
    with pytest.raises(ValueError, match=rf"axis table of {layout}: permutation .* changes the output by") as error:
        believed(layout, build, change)
    if worst:
        name, _, part = worst.partition("/") if "Dense" in worst else worst.rpartition("/")
        module = names.get(name, f"layers.{name.removeprefix('Dense_')}")
        ours = f"{module}.{'bias' if part == 'bias' else 'weight'}"
        assert f"the worst parameter is {ours}, labelled" in str(error.value)
