"""The picture of the home page is what `tools.hero` draws, and what it shows is true."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from tools import hero
from tools.notebooks import ROOT

STATIC = ROOT / "book/_static"
Q = hero.charges()


@pytest.fixture(scope="module")
def drawn():
    return hero.flows(Q)


def test_the_picture_is_in_step_with_the_tool():
    assert (STATIC / "hero.svg").read_text(encoding="utf-8") == hero.picture()


def test_every_path_keeps_its_charge_and_ends_in_the_valley(drawn):
    ends, (u, v) = drawn[:, :, -1], np.moveaxis(drawn, -1, 0)
    assert np.abs(ends[..., 0] ** 2 - ends[..., 1] ** 2 - 2).max() < 2e-3  # ab = 1
    assert np.abs(ends.prod(axis=-1) - Q[:, None]).max() < 1e-4
    assert np.abs(u * v - Q[:, None, None]).max() < 2e-2  # between two drawn points the flow is cut short


def test_paths_of_one_charge_end_at_one_place_of_each_valley(drawn):
    ends = drawn[:, :, -1]
    for pair in (ends[Q > 0][:, [0, 1]], ends[Q > 0][:, [2, 3]], ends[Q < 0][:, [0, 3]], ends[Q < 0][:, [1, 2]]):
        assert np.abs(pair[:, 0] - pair[:, 1]).max() < 2e-3


def test_orbits_have_one_product():
    for product in (1.0, 0.3, -0.7):
        u, v = hero.orbit(product).T
        assert np.allclose((u**2 - v**2) / 2, product)


def test_the_picture_is_small_and_says_what_it_shows():
    text = (STATIC / "hero.svg").read_text(encoding="utf-8")
    root = ET.fromstring(text)
    names = [child.tag.split("}")[1] for child in root]
    assert len(text) <= 60_000 and names[:2] == ["title", "desc"]
    assert not re.search(r"href|url\(|@import", text)  # nothing is fetched
    ids = " ".join(e.attrib["id"] for e in root.iter() if "id" in e.attrib)
    assert root.attrib["aria-labelledby"] == ids


def test_the_card_has_the_size_that_sites_ask_for():
    data = (STATIC / "hero.png").read_bytes()
    assert len(data) <= 100_000
    assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == hero.CARD
