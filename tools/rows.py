"""The rows of the scoreboard: every proof and claim, read out of the executed notebooks."""

from dataclasses import dataclass
from pathlib import Path

import nbformat

from symlib.cards import slug
from tools import notebooks
from tools.notebooks import Chapter, ToolError


@dataclass(frozen=True)
class Row:
    """One card of the book: the chapter that shows it and its record."""

    chapter: Chapter
    record: dict

    @property
    def anchor(self) -> str:
        return f"{self.record['kind']}-{slug(self.record['id'])}"

    @property
    def verdict(self) -> str:
        return self.record["status" if self.record["kind"] == "proof" else "verdict"]

    @property
    def check(self) -> str:
        """The method of a proof; a claim is measured."""
        return self.record["method"] if self.record["kind"] == "proof" else "measured"


def read_rows(root: Path) -> list[Row]:
    """Every card in reading order. Raises ToolError on two cards with the same address."""
    rows: dict[str, Row] = {}
    for chapter in notebooks.chapters(root):
        if not chapter.notebook.is_file():
            raise ToolError(f"{chapter.name}: no executed notebook; run: make chapter C={chapter.name}")
        for _, record in notebooks.records(nbformat.read(chapter.notebook, as_version=4)):
            row = Row(chapter, record)
            if first := rows.get(row.anchor):
                both = f"{first.chapter.name} and in {chapter.name}"
                raise ToolError(f"{record['kind']} id '{record['id']}' stands in {both}")
            rows[row.anchor] = row
    return list(rows.values())
