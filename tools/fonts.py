"""Fonts cut to the characters that a style sheet uses, to stand inside it: text is there at the first paint."""

import base64
import io
import logging
from collections.abc import Iterable
from pathlib import Path

from fontTools import subset, ttLib

NAMES = {1, 3, 4, 6, 16}  # the records of a font that hold its name

logging.getLogger("fontTools.subset").setLevel(logging.ERROR)  # or it tells of every table that it leaves out


def cut(font: Path, codes: Iterable[int], name: str | None = None) -> bytes:
    """The characters `codes` of a font as woff, under another name where one is given."""
    with ttLib.TTFont(font, recalcTimestamp=False) as full:
        cutter = subset.Subsetter(subset.Options(layout_features=[], hinting=False))
        cutter.populate(unicodes=codes)
        cutter.subset(full)
        table = full["name"]
        for record in [record for record in table.names if name and record.nameID in NAMES]:
            table.setName(name, record.nameID, record.platformID, record.platEncID, record.langID)
        full.flavor = "woff"
        buffer = io.BytesIO()
        full.save(buffer)
    return buffer.getvalue()


def url(font: bytes) -> str:
    """The font itself as CSS asks for one: `url("data:...") format("woff")`."""
    return f'url("data:font/woff;base64,{base64.b64encode(font).decode()}") format("woff")'
