"""The map of the book: which chapter needs which earlier one, read from the cross-references, drawn as inline SVG.

A chapter needs an earlier one when its source refers to that chapter, or to a theorem, figure or equation in it.
"""

import posixpath
import re
import textwrap
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

from tools import contents
from tools.contents import Entry, Part

REFERENCE = re.compile(r"\{(doc|ref|numref|prf:ref|eq)\}`(?:[^`<]*<)?([^`<>]+)>?`")
LABEL = re.compile(r"^\s*:(?:label|name): *(\S+)|^\((\S+)\)=|\bname: *([\w-]+)", re.MULTILINE)
LINK = Callable[[str], str]  # from the name of a page to its address

LEFT, PITCH, WIDTH, HEIGHT, BAND, LINE = 158, 222, 184, 56, 106, 16
LETTERS = 19  # on a line of a box


def needs(texts: dict[str, str]) -> list[tuple[str, str]]:
    """Every (earlier chapter, chapter that refers to it); `texts` maps names to sources in reading order."""
    order = list(texts)
    homes = {label: name for name, text in texts.items() for m in LABEL.finditer(text) for label in m.groups() if label}
    found = set()
    for name, text in texts.items():
        for role, target in REFERENCE.findall(text):
            if role == "doc":
                home = posixpath.normpath(posixpath.join(posixpath.dirname(name), target.strip()))
            else:
                home = homes.get(target.strip(), name)
            if home in texts and order.index(home) < order.index(name):
                found.add((home, name))
    return sorted(found, key=lambda edge: (order.index(edge[1]), order.index(edge[0])))


def read_needs(root: Path) -> list[tuple[str, str]]:
    return needs({e.chapter.name: source(e) for p in contents.parts(root) for e in p.entries})


def direct(edges: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The arrows that no path of other arrows makes needless (the transitive reduction)."""
    edges = list(edges)
    out: dict[str, set[str]] = {}
    for a, b in edges:
        out.setdefault(a, set()).add(b)

    def reaches(a: str, b: str) -> bool:
        return any(c == b or reaches(c, b) for c in out.get(a, ()))

    return [(a, b) for a, b in edges if not any(reaches(c, b) for c in out[a])]


def source(entry: Entry) -> str:
    return entry.chapter.source.read_text(encoding="utf-8")


def corner(band: int, column: int) -> tuple[int, int]:
    """The upper left corner of a chapter's box."""
    return LEFT + PITCH * column, (BAND - HEIGHT) // 2 + BAND * band


def spread(index: int, count: int) -> float:
    """Where on the edge of a box the arrow `index` of `count` meets it, so that arrows do not share a place."""
    return WIDTH * (index + 1) / (count + 1)


def arrow(here: tuple[int, int], there: tuple[int, int], leaves: float, arrives: float) -> str:
    """The path from one box to a later one: across to the neighbour, over the row, or down between the columns."""
    (x, y), (u, v) = here, there
    if y == v and u - x == PITCH:
        return f"M{x + WIDTH} {y + HEIGHT / 2:g}H{u - 3}"
    if y == v:
        return f"M{x + WIDTH * 0.8:.0f} {y}C{x + WIDTH} {y - 34} {u} {v - 34} {u + WIDTH * 0.2:.0f} {v - 3}"
    start, end, bottom, gap = round(x + leaves), round(u + arrives), y + HEIGHT, BAND - HEIGHT
    if v - y == BAND:
        return f"M{start} {bottom}C{start} {bottom + 34} {end} {v - 34} {end} {v - 3}"
    lane = (u + WIDTH if u < x else u - (PITCH - WIDTH)) + round((PITCH - WIDTH) * leaves / WIDTH)
    return (
        f"M{start} {bottom}C{start} {bottom + 30} {lane} {bottom + gap - 30} {lane} {bottom + gap}"
        f"V{v - gap}C{lane} {v - 24} {end} {v - 30} {end} {v - 3}"
    )


def box(entry: Entry, number: int, at: tuple[int, int], link: LINK) -> str:
    """A chapter as a link: a rectangle with its title in up to three lines."""
    (x, y), lines = at, textwrap.wrap(entry.title, LETTERS)
    top = y + HEIGHT / 2 + 5 - LINE * (len(lines) - 1) / 2
    spans = "".join(f'<tspan x="{x + 14}" y="{top + LINE * i:g}">{escape(t)} </tspan>' for i, t in enumerate(lines))
    return (
        f'<a href="{escape(link(entry.docname))}" class="chapter c{number}">'
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7"/><text>{spans}</text></a>'
    )


def svg(parts: list[Part], edges: Iterable[tuple[str, str]], link: LINK) -> str:
    """The map as SVG: a band for each part, chapters in reading order, arrows from what is needed."""
    edges = list(edges)
    places = {e.chapter.name: corner(b, c) for b, p in enumerate(parts) for c, e in enumerate(p.entries)}
    numbers = {name: i for i, name in enumerate(places)}
    out = {
        name: sorted((b for a, b in edges if a == name), key=lambda b: (places[b][0], -places[b][1])) for name in places
    }
    into = {name: sorted((a for a, b in edges if b == name), key=lambda a: places[a][0]) for name in places}
    width, height = LEFT + PITCH * max(len(p.entries) for p in parts) - PITCH + WIDTH + 8, BAND * len(parts)
    bands = [
        f'<rect class="band" x="0" y="{BAND * b + 2}" width="{width}" height="{BAND - 4}" rx="10"/>'
        f'<a href="{escape(link(p.docname))}" class="part"><text x="16" y="{corner(b, 0)[1] + HEIGHT / 2 + 5:g}">'
        f"{escape(p.caption)}</text></a>"
        for b, p in enumerate(parts)
    ]
    arrows = [
        f'<path class="need f{numbers[a]} t{numbers[b]}" marker-end="url(#tip)" d="'
        + arrow(places[a], places[b], spread(out[a].index(b), len(out[a])), spread(into[b].index(a), len(into[b])))
        + '"/>'
        for a, b in edges
    ]
    boxes = [box(e, numbers[e.chapter.name], places[e.chapter.name], link) for p in parts for e in p.entries]
    lit = ",".join(f".book-map:has(.c{i}:is(:hover,:focus-visible)) .need:is(.f{i},.t{i})" for i in numbers.values())
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" aria-label='
        '"Map of the book: a row for each part, an arrow to each chapter from the chapters it needs">'
        f"<style>{lit}{{stroke:var(--pst-color-primary);stroke-width:2.4;opacity:1}}</style>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8Z"/></marker></defs>'
        f"{''.join(bands + arrows + boxes)}</svg>"
    )


def as_list(parts: list[Part], edges: Iterable[tuple[str, str]], link: LINK) -> str:
    """The same map as a list of links, for those who do not see the drawing."""
    known = {e.chapter.name: e for p in parts for e in p.entries}
    edges = list(edges)

    def anchor(entry: Entry) -> str:
        return f'<a href="{escape(link(entry.docname))}">{escape(entry.title)}</a>'

    def item(name: str, entry: Entry) -> str:
        before = ", ".join(anchor(known[a]) for a, b in edges if b == name)
        return f"<li>{anchor(entry)}" + (f" needs {before}" if before else "") + "</li>"

    return f"<ul>{''.join(item(name, entry) for name, entry in known.items())}</ul>"


def drawing(parts: list[Part], edges: list[tuple[str, str]], link: LINK) -> str:
    """The map, with the arrows it needs, and a list of all as HTML; the map scrolls in its own box on a phone."""
    return (
        f'<div class="book-map"><div class="book-map-box">{svg(parts, direct(edges), link)}</div>'
        f"<details><summary>All of it as a list</summary>{as_list(parts, edges, link)}</details></div>"
    )
