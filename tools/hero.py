"""The picture of the home page: `python -m tools.hero` writes `book/_static/hero.svg`, and `hero.png` for social cards.

A network of two weights, f(x) = a b x, is to learn f(x) = x.  Its loss (ab - 1)^2 / 2 is drawn over (a + b)/sqrt(2),
called u, to the right, and (a - b)/sqrt(2), called v, upwards.  The orbits of the rescaling group are the curves of
constant ab; gradient flow crosses them at right angles and keeps the charge uv = (a^2 - b^2)/2, which decides where in
the valley it ends.
"""

import html
import io
import os
from collections.abc import Iterable

import numpy as np
import torch
import yaml

from symlib import dynamics
from tools import browser, notebooks
from tools.notebooks import ROOT

WIDTH, HEIGHT, UNIT = 1200, 560, 190  # of the view box; UNIT is the length of 1 in it
EDGE = np.array([WIDTH, HEIGHT]) / (2 * UNIT)
SIGNS, POINTS = 14, 24  # charges of each sign, points of a drawn curve
CARD = (1200, 630)

TITLE = "Gradient flow in a landscape with a symmetry"
DESCRIPTION = (
    "A saddle in the middle, at the symmetric state, and a curved valley of zero loss on either side. Paths of "
    "training start all around, part at the saddle and end spread out along the valleys. The colour of a path shows "
    "the charge that it conserves: paths of one colour end at one place of a valley."
)
LIGHT = "--cold: #08758a; --mid: #8b62bd; --warm: #d1520f; --ink: #1f2937; --paper: #fff"
DARK = "--cold: #3fd0e6; --mid: #b79cf0; --warm: #ff9a55; --ink: #e5e9f0; --paper: #14181e"
STYLE = f"""
.hero {{ {LIGHT} }}
html[data-theme="dark"] .hero {{ {DARK} }}
@media (prefers-color-scheme: dark) {{ .hero:root {{ {DARK} }} }}
.hero text {{ font: 500 17px system-ui, sans-serif; fill: var(--ink); paint-order: stroke }}
.hero text {{ stroke: var(--paper); stroke-width: 5px }}
@media (max-width: 700px) {{
  .hero text {{ font-size: 34px; stroke-width: 9px }}
  .hero .state {{ transform: translateY(14px) }}
  .hero .wide {{ display: none }}
  .hero .flow {{ stroke-width: 2.4 }}
}}
@media (prefers-reduced-motion: no-preference) {{
  .hero .flow path {{ stroke-dasharray: 1; animation: hero-flow 3s cubic-bezier(.35, .1, .2, 1) backwards }}
  .hero .end {{ animation: hero-end .7s 2.3s ease-out backwards }}
}}
@keyframes hero-flow {{ from {{ stroke-dashoffset: 1 }} }}
@keyframes hero-end {{ from {{ opacity: 0 }} }}
"""


def charges() -> np.ndarray:
    """Charges of both signs, in increasing order; v sqrt(2 + v^2) is the charge that ends at height v of the valley."""
    height = 1.26 * (np.arange(1, SIGNS + 1) / SIGNS) ** 1.25
    one_sign = height * np.sqrt(2 + height**2)
    return np.concatenate([-one_sign[::-1], one_sign])


def starts(q: np.ndarray) -> np.ndarray:
    """Where training starts, (charges, 4, 2): for each charge above, right, below and left, at uneven distances."""
    gen = np.random.default_rng(4)
    u, v = (edge * gen.uniform(0.78, 0.97, (2, len(q))) for edge in EDGE)
    return np.stack([q / v[0], v[0], u[0], q / u[0], -q / v[1], -v[1], -u[1], -q / u[1]], axis=-1).reshape(-1, 4, 2)


def loss(theta: dynamics.Params) -> torch.Tensor:
    """Half the squared error of a b x at x = 1, where 1 is wanted, of every member."""
    return (theta["a"] * theta["b"] - 1).square() / 2


def flows(q: np.ndarray) -> np.ndarray:
    """Gradient flow from every start until it rests, (charges, 4, POINTS, 2)."""
    u, v = torch.from_numpy(starts(q).reshape(-1, 2)).T
    theta = {"a": (u + v) / 2**0.5, "b": (u - v) / 2**0.5}
    times = torch.cat([torch.zeros(1), torch.logspace(-3, 1.6, 300)])
    log = dynamics.flow(loss, theta, times=times, record={"a": lambda t: t["a"], "b": lambda t: t["b"]}).log
    points = torch.stack([log["a"] + log["b"], log["a"] - log["b"]], dim=-1).numpy() / 2**0.5
    return np.stack([even(path) for path in points]).reshape(len(q), 4, POINTS, 2)


def even(path: np.ndarray) -> np.ndarray:
    """POINTS points of a path (n, 2), closer where it turns."""
    path = path[np.insert(np.hypot(*np.diff(path, axis=0).T) > 1e-6, 0, True)]  # at rest a direction is rounding
    step = np.diff(path, axis=0)
    turn = np.abs(np.diff(np.unwrap(np.arctan2(step[:, 1], step[:, 0]))))
    done = np.concatenate([[0], (np.hypot(*step.T) + np.append(turn, 0)).cumsum()])
    at = np.linspace(0, done[-1], POINTS)
    return np.stack([np.interp(at, done, path[:, i]) for i in (0, 1)], axis=-1)


def orbit(product: float) -> np.ndarray:
    """One branch of the orbit with this ab, across the picture: the right one, or the upper one if ab < 0."""
    along = np.linspace(-1.03, 1.03, 2 * POINTS) * EDGE[1 if product > 0 else 0]
    across = np.sqrt(along**2 + 2 * abs(product))
    return np.stack([across, along] if product > 0 else [along, across], axis=-1)


def place(points: np.ndarray) -> np.ndarray:
    """(u, v) in tenths of the units of the view box, whole numbers."""
    return np.rint(10 * (np.array([WIDTH, HEIGHT]) / 2 + UNIT * points * np.array([1, -1]))).astype(int)


def curve(points: np.ndarray) -> str:
    """The path through points, as the attribute d: the first absolute, the others relative."""
    at = place(points)
    text = [f"{x / 10:g},{y / 10:g}" for x, y in [at[0], *np.diff(at, axis=0)]]
    return f"M{text[0]}l{' '.join(text[1:])}"


def colour(charge: float, largest: float) -> str:
    """Cold for negative charges, warm for positive ones, a middle hue near zero."""
    share = round(100 * (abs(charge) / largest) ** 0.7)
    return f"color-mix(in oklab, var(--{'warm' if charge > 0 else 'cold'}) {share}%, var(--mid))"


def ground() -> Iterable[str]:
    """Orbits in thin ink, and the valley: the places where the loss is below a level, for five levels, and zero."""
    lines = [sign * orbit(p) for p in (0.3, 1.8, 2.7, 3.8, 5.0, -0.12, -0.35, -0.7, -1.1) for sign in (1, -1)]
    yield f'<path d="{"".join(map(curve, lines))}" stroke="var(--ink)" opacity=".13"/>'
    for off in (0.5, 0.38, 0.27, 0.17, 0.08):
        bands = [sign * np.concatenate([orbit(1 - off), orbit(1 + off)[::-1]]) for sign in (1, -1)]
        yield f'<path d="{"".join(f"{curve(b)}z" for b in bands)}" fill="var(--mid)" opacity=".07"/>'
    yield f'<path d="{curve(orbit(1))}{curve(-orbit(1))}" stroke="var(--mid)" stroke-width="3" opacity=".55"/>'


def training() -> Iterable[str]:
    """The paths with a small disc at each start; then, above all of them, where they end."""
    q = charges()
    drawn = flows(q)
    hues = [colour(c, q[-1]) for c in q]
    yield '<g class="flow" stroke-width="1.6">'
    for group, hue in zip(drawn, hues, strict=True):
        yield f'<g stroke="{hue}">' + "".join(f'<path pathLength="1" d="{curve(p)}"/>' for p in group) + "</g>"
    yield '</g><g stroke-width="5.5">'
    for group, hue in zip(drawn, hues, strict=True):
        yield f'<path stroke="{hue}" d="{dots(group[:, 0])}"/>'
    ends = drawn[:, 1::2, -1]  # of the paths from the right and from the left; the other two end there too
    yield f'</g><g class="end"><path stroke="var(--paper)" stroke-width="15" d="{dots(ends.reshape(-1, 2))}"/>'
    for group, hue in zip(ends, hues, strict=True):
        yield f'<path stroke="{hue}" stroke-width="11" d="{dots(group)}"/>'
    yield "</g>"


def dots(points: np.ndarray) -> str:
    """Lines without length, which a round cap shows as discs."""
    return "".join(f"M{x / 10:g},{y / 10:g}h0" for x, y in place(points))


def labels() -> Iterable[str]:
    """Names for the three things to know."""
    x, y = WIDTH // 2, HEIGHT // 2
    yield f'<circle cx="{x}" cy="{y}" r="8" stroke="var(--ink)" stroke-width="2.5"/>'
    yield f'<text class="state" x="{x}" y="{y + 31}" text-anchor="middle">symmetric state</text>'
    yield f'<text class="wide" x="{WIDTH - 8}" y="{HEIGHT - 12}" text-anchor="end">valley: one orbit, loss zero</text>'
    yield f'<text class="wide" x="8" y="{HEIGHT - 12}">colour: conserved charge</text>'


def picture() -> str:
    """The whole picture as SVG, its colours as variables of light and dark."""
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="hero-title hero-desc"'
    lines = [
        f'<svg class="hero" xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<title id="hero-title">{TITLE}</title><desc id="hero-desc">{DESCRIPTION}</desc><style>{STYLE}</style>',
        '<g fill="none" stroke-linecap="round" stroke-linejoin="round">',
        *ground(),
        *training(),
        *labels(),
        "</g></svg>",
    ]
    return "\n".join(lines) + "\n"


def card(chromium: str) -> bytes:
    """The picture with the title of the book as a PNG, drawn by Chromium in the dark scheme."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    name = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    look = "margin: 0; background: #14181e; color: #e5e9f0; text-align: center; font: 600 35px/60px sans-serif"
    page = f'<!doctype html><html data-theme="dark"><body style="{look}">{picture()}{html.escape(name)}</body></html>'
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        tab = opened.new_page(viewport={"width": CARD[0], "height": CARD[1]}, reduced_motion="reduce")
        tab.set_content(page)
        shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
        opened.close()
    shot.quantize(80, dither=Image.Dither.NONE).save(out := io.BytesIO(), "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Write both files; without Chromium only the first, and say so."""
    folder = ROOT / "book/_static"
    notebooks.write_atomic(folder / "hero.svg", picture())
    if chromium := browser.find():
        (folder / "hero.png").write_bytes(card(chromium))
    else:
        print("hero.png was not drawn: Chromium is not installed")


if __name__ == "__main__":
    main()
