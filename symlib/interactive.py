"""Figures that a slider moves: plain SVG, made from arrays and drawn whole in one state.  Nothing is computed here.

What moves has one axis more than what stands still, first: (frames, k) in place of (k,).  Where no script runs (print,
GitHub, JupyterLab) the drawn state is an ordinary figure and the controls stay hidden.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

WIDTH, HEIGHT = 640, 540  # of the view box of a panel; whole numbers are fine enough and keep the page small
LEFT, RIGHT, TOP, BOTTOM, ROW = 112, 20, 20, 84, 34


@dataclass(frozen=True)
class Mark:
    """Something in a panel: x and y as (k,), or as (frames, k) where it moves; size is that of a line or of a disc."""

    kind: str
    x: np.ndarray
    y: np.ndarray
    color: str
    size: float
    label: str = ""
    dashed: bool = False

    @property
    def frames(self) -> int | None:
        """The number of states, None for what stands still."""
        return len(self.x) if self.x.ndim == 2 else None


def line(
    x: Any, y: Any, color: str = "currentColor", label: str = "", *, width: float = 4, dashed: bool = False
) -> Mark:
    """A line through points; it breaks where one is not finite.  Raises ValueError as `dots` does.  Source: ours."""
    return replace(dots(x, y, color, label, size=width), kind="line", dashed=dashed)


def dots(x: Any, y: Any, color: str = "currentColor", label: str = "", *, size: float = 14) -> Mark:
    """Discs at points.  Raises ValueError when x and y do not fit to (k,) or (frames, k).  Source: ours."""
    try:
        wide, high = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    except ValueError:
        raise ValueError(f"interactive: x {np.shape(x)} and y {np.shape(y)} do not fit together") from None
    if wide.ndim not in (1, 2):
        raise ValueError(f"interactive: wanted points (k,) or (frames, k), got {wide.shape}")
    return Mark("dots", wide, high, color, size, label)


@dataclass(frozen=True)
class Panel:
    """One pair of axes, logarithmic where `log` names them, with its marks; limits hold all points unless given."""

    marks: Sequence[Mark]
    x: str
    y: str
    log: str = ""
    xlim: tuple[float, float] | None = None
    ylim: tuple[float, float] | None = None


@dataclass(frozen=True)
class Interactive:
    """A figure with a slider, as it shows itself in a notebook."""

    text: str
    markup: str

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": self.text, "text/html": self.markup}


def figure(
    panels: Sequence[Panel],
    *,
    slider: str,
    at: Sequence[str],
    alt: str,
    numbers: Mapping[str, Sequence[str]] | None = None,
    first: int = 0,
    play: bool = False,
) -> Interactive:
    """Panels side by side above a slider with a position for each of the texts `at`; `first` is the state drawn.

    `numbers` names texts, one per position, that stand below the panels; `play` adds a button that runs through all.

    Raises ValueError when something does not have as many states as there are positions.

    Source: ours.
    """
    rows = {slider: at, **(numbers or {})}
    found = [("a mark", m.frames) for p in panels for m in p.marks if m.frames is not None]
    for name, count in [*found, *((repr(k), len(v)) for k, v in rows.items())]:
        if count != len(at):
            raise ValueError(f"interactive: {name} should have {len(at)} states, one for each position, got {count}")
    if not 0 <= first < len(at):
        raise ValueError(f"interactive: first should be one of {len(at)} positions, got {first}")
    moves: list[list[str]] = []
    drawn = "".join(_panel(p, first, moves) for p in panels)
    told = "".join(_number(name, list(texts), first, moves) for name, texts in rows.items())
    button = '<button type="button" data-play>Play</button>' if play else ""
    data = json.dumps(moves, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return Interactive(
        alt,
        f'<div class="interactive" style="max-width:48rem"><div role="img" aria-label="{html.escape(alt)}" '
        f'style="display:flex;flex-wrap:wrap;justify-content:center;gap:.5rem">{drawn}</div>'
        f'<p class="numbers" style="display:flex;flex-wrap:wrap;gap:.1rem 1.4rem">{told}</p>'
        f'<div class="controls" hidden>{button}<input type="range" autocomplete="off" min="0" max="{len(at) - 1}" '
        f'value="{first}" aria-label="{html.escape(slider)}"></div>'
        f'<script type="application/json">{data}</script></div>',
    )


def _number(name: str, texts: list[str], first: int, moves: list[list[str]]) -> str:
    moves.append(texts)
    wide = max(map(len, texts))
    shown = f'<b data-moves style="display:inline-block;min-width:{wide}ch">{html.escape(texts[first])}</b>'
    return f"<span>{html.escape(name)} {shown}</span>"


def _panel(panel: Panel, first: int, moves: list[list[str]]) -> str:
    labels = [m for m in panel.marks if m.label]
    low, high = HEIGHT - BOTTOM, TOP + ROW * len(labels)
    x = _Scale.over([m.x for m in panel.marks], panel.xlim, "x" in panel.log, LEFT, WIDTH - RIGHT)
    y = _Scale.over([m.y for m in panel.marks], panel.ylim, "y" in panel.log, low, high)
    parts = [f'<path d="M{LEFT},{high}V{low}H{WIDTH - RIGHT}" fill="none" stroke="currentColor" stroke-width="2"/>']
    for value in x.ticks():
        place = x(np.array(value))
        parts.append(f'<path d="M{place},{low}v9" stroke="currentColor" stroke-width="2"/>')
        parts.append(_text(f"{value:g}", place, low + 36, "middle"))
    for value in y.ticks():
        place = y(np.array(value))
        parts.append(f'<path d="M{LEFT},{place}h-9" stroke="currentColor" stroke-width="2"/>')
        parts.append(_text(f"{value:g}", LEFT - 14, int(place) + 9, "end"))
    parts.append(_text(panel.x, (LEFT + WIDTH - RIGHT) // 2, HEIGHT - 8, "middle"))
    turned = f' transform="rotate(-90 22 {(low + high) // 2})"'
    parts.append(_text(panel.y, 22, (low + high) // 2, "middle", turned))
    for i, mark in enumerate(labels):
        key = "M{},{}h30" if mark.kind == "line" else "M{},{}h0"
        parts.append(_path(mark, key.format(LEFT + 14 + 15 * (mark.kind == "dots"), TOP + ROW * i)))
        parts.append(_text(mark.label, LEFT + 58, TOP + ROW * i + 9, "start"))
    for mark in panel.marks:
        if mark.frames is None:
            parts.append(_path(mark, _trace(mark, mark.x, mark.y, x, y)))
        else:
            moves.append([_trace(mark, *now, x, y) for now in zip(mark.x, mark.y, strict=True)])
            parts.append(_path(mark, moves[-1][first], " data-moves"))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" font-size="28" font-family="sans-serif" fill="currentColor" '
        f'style="flex:1 1 290px;max-width:330px;min-width:0">{"".join(parts)}</svg>'
    )


def _text(words: str, x: Any, y: Any, anchor: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{html.escape(words)}</text>'


def _path(mark: Mark, d: str, more: str = "") -> str:
    cap = ' stroke-linecap="round"' if mark.kind == "dots" else ""
    dash = ' stroke-dasharray="12 8"' if mark.dashed else ""
    return f'<path d="{d}" fill="none" stroke="{mark.color}" stroke-width="{mark.size:g}"{cap}{dash}{more}/>'


def _trace(mark: Mark, x: np.ndarray, y: np.ndarray, across: "_Scale", up: "_Scale") -> str:
    """The points as a path: discs are lines without length; a line starts anew after a point that is not drawn."""
    pieces, pen = [], False
    for drawn, u, v in zip(across.holds(x) & up.holds(y), across(x), up(y), strict=True):
        if drawn:
            pieces.append(f"M{u},{v}h0" if mark.kind == "dots" else f"{'L' if pen else 'M'}{u},{v}")
        pen = bool(drawn)
    return "".join(pieces)


@dataclass(frozen=True)
class _Scale:
    """From values to whole places in the view box; what lies outside the limits is not drawn."""

    low: float
    high: float
    log: bool
    start: int
    end: int

    @classmethod
    def over(cls, values: list[np.ndarray], limits: Any, log: bool, start: int, end: int) -> "_Scale":
        if limits is None:
            every = np.concatenate([v.ravel() for v in values])
            every = every[np.isfinite(every) & ((every > 0) | (not log))]
            ends = np.log10([every.min(), every.max()]) if log else np.array([every.min(), every.max()])
            ends = ends + np.array([-0.04, 0.04]) * max(float(np.ptp(ends)), 1e-9 + 0.01 * float(np.abs(ends).max()))
            limits = 10**ends if log else ends
        return cls(float(limits[0]), float(limits[1]), log, start, end)

    def share(self, values: np.ndarray) -> np.ndarray:
        low, high, at = self.low, self.high, np.nan_to_num(values)
        if self.log:
            low, high, at = math.log10(low), math.log10(high), np.log10(np.maximum(at, 1e-300))
        return (at - low) / (high - low)

    def holds(self, values: np.ndarray) -> np.ndarray:
        return np.isfinite(values) & (np.abs(self.share(values) - 0.5) <= 0.5 + 1e-9)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.rint(self.start + (self.end - self.start) * np.clip(self.share(values), 0, 1)).astype(int)

    def ticks(self) -> list[float]:
        if self.log:
            tens = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            few = [10.0**e for e in tens if self.low <= 10.0**e <= self.high]
            if len(few) >= 3:
                return few[:: 1 + len(few) // 6]
            return [m * 10.0**e for e in tens for m in (1, 2, 3, 5) if self.low <= m * 10.0**e <= self.high]
        wide = self.high - self.low
        step = 10.0 ** math.floor(math.log10(wide / 4))
        step *= next(m for m in (1, 2, 5, 10) if wide / (m * step) <= 5)
        return [round(k * step, 12) for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
