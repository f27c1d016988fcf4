"""What the book consists of: its parts, and for each chapter a title, a sentence, a thumbnail, counts, a reading time.

The sentence and the name of the figure stand in `book/chapters.yml`; everything else is read from the notebooks.
"""

import base64
import functools
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode
from PIL import Image

from tools import notebooks, scoreboard
from tools.notebooks import Chapter, ToolError

TABLE = Path("book", "chapters.yml")
WORDS_PER_MINUTE = 150  # of a text with mathematics and code
COLOURS = 96  # of a thumbnail


@dataclass(frozen=True)
class Thumbnail:
    """A figure of a chapter, or a part of one, as a small PNG, with the alt text of the figure."""

    png: bytes
    alt: str

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Entry:
    """A chapter as the home page, its part page and the map show it; `shows` is one sentence."""

    chapter: Chapter
    title: str
    minutes: int
    figures: int
    kinds: Counter[str]
    verdicts: Counter[str]
    shows: str = ""
    thumbnail: Thumbnail | None = None

    @property
    def docname(self) -> str:
        return f"book/{self.chapter.name}"

    @property
    def facts(self) -> str:
        """Counts and reading time, such as '13 proofs · 21 claims · 25 min'."""
        counts = [f"{n} {kind}{'s' * (n != 1)}" for kind in ("proof", "claim") if (n := self.kinds[kind])]
        return " · ".join([*counts, f"{self.minutes} min"])


@dataclass(frozen=True)
class Part:
    """A part of the book with a page of its own, whose title is the part's question."""

    caption: str
    docname: str
    question: str
    entries: tuple[Entry, ...]


def title(text: str, where: str) -> str:
    """The first heading of a markdown text."""
    heads = [line.removeprefix("# ").strip() for line in text.splitlines() if line.startswith("# ")]
    if not heads:
        raise ToolError(f"{where}: wanted a heading '# ...', found none")
    return heads[0]


def minutes(nb: NotebookNode) -> int:
    """How long text and code take to read, to five minutes."""
    words = sum(len(cell.source.split()) for cell in nb.cells)
    return max(5, 5 * round(words / WORDS_PER_MINUTE / 5))


def figure_names(nb: NotebookNode) -> list[str]:
    """The names of the figures that the code cells show, in order."""
    return [name for cell in notebooks.code_cells(nb) if (name := figure(cell).get("name"))]


def figure(cell: NotebookNode) -> dict:
    return cell.metadata.get("mystnb", {}).get("figure", {})


def thumbnail(nb: NotebookNode, name: str, crop: list[float] | None, where: str) -> Thumbnail:
    """The figure called `name`, cut to the fractions `crop` of its width and height, in few colours."""
    for cell in notebooks.code_cells(nb):
        pictures = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
        if figure(cell).get("name") == name and pictures:
            image = Image.open(io.BytesIO(base64.b64decode(pictures[0]))).convert("RGBA")
            if crop:
                left, top, right, bottom = crop
                w, h = image.size
                image = image.crop((round(left * w), round(top * h), round(right * w), round(bottom * h)))
            stream = io.BytesIO()
            image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(stream, "PNG", optimize=True)
            alt = cell.metadata.mystnb.image.alt
            return Thumbnail(stream.getvalue(), f"Part of a figure. {alt}" if crop else alt)
    raise ToolError(
        f"{TABLE}, {where}: wants the picture {name!r}; the chapter has {', '.join(figure_names(nb)) or 'none'}"
    )


def read_table(root: Path, names: list[str]) -> dict[str, dict]:
    """The rows of `book/chapters.yml`, one for each of `names`; a book without the file has none."""
    if not (root / TABLE).is_file():
        return {}
    table = yaml.safe_load((root / TABLE).read_text(encoding="utf-8"))
    if odd := set(table) ^ set(names):
        raise ToolError(f"{TABLE}: wanted one row for each chapter of _toc.yml; too many or missing: {sorted(odd)}")
    return table


@functools.cache
def entries(root: Path) -> tuple[Entry, ...]:
    """Every chapter with code, in reading order."""
    chapters = notebooks.chapters(root)
    table, rows = read_table(root, [c.name for c in chapters]), scoreboard.read_rows(root)
    found = []
    for chapter in chapters:
        nb = nbformat.read(chapter.notebook, as_version=4)
        text = "\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
        mine, row, picture = [r for r in rows if r.chapter == chapter], table.get(chapter.name), None
        if row:
            picture = thumbnail(nb, row["figure"], row.get("crop"), chapter.name)
        found.append(
            Entry(
                chapter, title(text, chapter.name), minutes(nb), len(figure_names(nb)),
                Counter(r.record["kind"] for r in mine), Counter(r.verdict for r in mine),
                row["shows"] if row else "", picture,
            )
        )  # fmt: skip
    return tuple(found)


def parts(root: Path) -> list[Part]:
    """The parts that have chapters and a page of their own (`index`), in reading order."""
    captions = {e.chapter.part for e in entries(root)}
    pages = [(part, file) for part, file in notebooks.toc_files(root) if part in captions and file.endswith("/index")]
    return [
        Part(caption, file, title((root / f"{file}.md").read_text(encoding="utf-8"), file),
             tuple(e for e in entries(root) if e.chapter.part == caption))
        for caption, file in pages
    ]  # fmt: skip
