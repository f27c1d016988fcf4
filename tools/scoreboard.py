"""Write `book/appendix/scoreboard.md`: every theorem, proof and claim, read out of the executed notebooks.

`python -m tools.scoreboard` writes the page, `--check` fails when it is out of step. The page is a plain table;
`table.js` adds sorting, a search and filters that stand in the address. As a Sphinx extension the module writes the
same rows beside the page, as CSV and JSON. Device and commit are filled in by tools/provenance.py.
"""

import argparse
import csv
import io
import json
import sys
from collections import Counter
from html import escape
from pathlib import Path
from urllib.parse import urlencode

from sphinx.application import Sphinx

from symlib.cards import rich, slug
from symlib.results import bounds
from tools import notebooks, provenance, theorems
from tools.notebooks import ROOT, ToolError
from tools.rows import Row, read_rows
from tools.theorems import Theorem

PAGE = Path("book", "appendix", "scoreboard.md")
VERDICTS = ("proved", "refuted", "open", "reproduced", "partly", "not reproduced", "ours")
INTRO = """\
# Scoreboard

<!-- Written by tools/scoreboard.py from the executed notebooks; edit the chapters, not this page. -->

Every theorem of the book and how it was checked, every statement that it proves or refutes, and every number
that it claims. A *proof* was checked by the machine when its chapter ran; a *claim* is a measured number with the
bounds that the chapter asserts. Each row leads to the card in its chapter, where the code stands.
"""
LEGEND = """\
Verdict
: **proved**, **refuted** (with a witness) or **open** for a proof, within the scope that the row states;
  **reproduced**, **partly** or **not reproduced** for a claim of a paper; **ours** for a number of no paper.

Check
: *symbolic*: an identity at the stated sizes; *all sizes*: with unspecified dimensions; *exhaustive*: every element
  of a finite group; *infinitesimal*: the Lie algebra; *witness*: an exact point where the statement fails;
  *measured*: a number inside asserted bounds. More in
  <a href="how-every-claim-is-checked.html">how every claim is checked</a>.

Ours
: the measured number, from the least to the greatest member where an ensemble was trained, and the number of members.

Within
: the scope of a proof, the asserted bounds of a claim.

Run
: profile and device of the run that the page shows, and the commit of its notebook.
"""
CITE = """\
## Citing a row

The sign # in front of a row is a link to this row, and a choice of filters stands in the address of the page, so that
both can be copied and cited. To cite a row, give its address and the commit that it states: at that commit,
`make chapter` makes its number again.
All rows: <a href="scoreboard.csv" download>CSV</a>, <a href="scoreboard.json" download>JSON</a>.
"""


def number(value: float) -> str:
    return f"{value:.4g}"


def inline(text: str) -> str:
    """Text as HTML on one line: a blank line would end the HTML block of the page."""
    return rich(" ".join(text.split()))


def small(text: str) -> str:
    return f" <small>{text}</small>" if text else ""


def ours(record: dict) -> str:
    """A measured number with its unit, spread and members."""
    if record["kind"] == "proof":
        return "–"
    value = f"{number(record['measured'])} {escape(record.get('unit') or '')}".strip()
    below = []
    if record.get("spread"):
        below.append(" to ".join(map(number, record["spread"])))
    if record.get("members"):
        below.append(f"{record['members']} members")
    return value + small("<br> ".join(below))


def within(record: dict) -> str:
    """The scope of a proof, the asserted bounds of a claim."""
    return inline(record["scope"]) if record["kind"] == "proof" else bounds(*record["within"])


def paper(record: dict) -> str:
    """What the paper says, and which paper."""
    said, source = (str(record.get(key) or "") for key in ("paper", "source"))
    return (inline(said) + small(inline(source if source != "ours" else ""))).strip() or "–"


def row_html(row: Row) -> str:
    verdict, part, name = row.verdict, row.chapter.part, row.chapter.name
    card, place = f"../{name}.html#{row.anchor}", f"row-{row.anchor}"
    return (
        f'<tr id="{place}" data-part="{escape(part)}" data-check="{row.check}" data-verdict="{verdict}">'
        f'<td><a class="row-link" href="#{place}" aria-label="Link to this row">#</a>'
        f'<a href="{card}">{inline(row.record["statement"])}</a></td>'
        f'<td>{row.check}</td><td><span class="verdict {slug(verdict)}">{verdict}</span></td>'
        f"<td>{ours(row.record)}</td><td>{within(row.record)}</td><td>{paper(row.record)}</td>"
        f'<td>{row.record.get("profile", "quick")} <span class="run" data-chapter="{name}"></span></td></tr>'
    )


def filtered(text: int, **choice: str) -> str:
    """A count as a link to the rows that it counts."""
    return f'<a href="?{escape(urlencode(choice))}#rows">{text}</a>' if text else "–"


def table(name: str, head: list[str], rows: list[str]) -> str:
    """An HTML table with an id, without a blank line."""
    heads = "".join(f'<th scope="col">{title}</th>' for title in head)
    return "\n".join([f'<table id="{name}">', f"<thead><tr>{heads}</tr></thead>", "<tbody>", *rows, "</tbody></table>"])


def summary(rows: list[Row]) -> str:
    """How many cards of each verdict every part has, each count a link to its rows."""
    used = [v for v in VERDICTS if v in {row.verdict for row in rows}]
    lines = []
    for part in [*dict.fromkeys(row.chapter.part for row in rows), ""]:
        here = [row for row in rows if part in ("", row.chapter.part)]
        count, choice = Counter(row.verdict for row in here), {"part": part} if part else {}
        cells = [filtered(count[v], **choice, verdict=v) for v in used] + [filtered(len(here), **choice)]
        name = f'<th scope="row">{escape(part) or "Whole book"}</th>'
        lines.append(f"<tr>{name}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    heads = ["Part", *(f'<span class="verdict {slug(v)}">{v}</span>' for v in used), "all"]
    box = '<div class="table-scroll" role="region" aria-label="Proofs and claims by part and verdict" tabindex="0">'
    return f"{box}\n{table('summary', heads, lines)}</div>\n"


def counts(rows: list[Row], known: list[Theorem]) -> str:
    """How many theorems and cards there are, in one sentence."""
    kinds = Counter(row.record["kind"] for row in rows)
    words = [(len(known), "theorem"), (kinds["proof"], "proof"), (kinds["claim"], "claim")]
    first, second, third = (f"**{n} {word}{'s' * (n != 1)}**" for n, word in words)
    return f"{first}, {second} and {third}.\n"


def theorem_table(known: list[Theorem]) -> str:
    """Every theorem, whether the text proves it, and what its cards check, as a table of the page."""
    if not known:
        return ""
    checked = [t for t in known if t.checks]
    ways = Counter(method for t in checked for method in {check.method for check in t.checks})
    said = ", ".join(f"{n} *{way}*" for way, n in ways.most_common())
    lines = ["| theorem | part | in the text | by cards |", "| --- | --- | --- | --- |"]
    for t in known:
        covered: dict[str, list[str]] = {}
        for check in t.checks:
            covered.setdefault(check.covers, []).append(f"*{check.method}*")
        cards = "; ".join(f"{covers}: {', '.join(methods)}" for covers, methods in covered.items()) or "–"
        text = "proved" if t.proved else "stated"
        lines.append(f"| {{prf:ref}}`{t.label}`, {t.title} | {t.chapter.part} | {text} | {cards} |")
    proved = sum(t.proved for t in known)
    return f"""## Theorems

{proved} of {len(known)} theorems are proved in the text. Cards check {len(checked)} of them, often a part, a step
of the proof or a case only: {said}. The badge in the box of a theorem says for what.

{chr(10).join(lines)}
"""


def page(rows: list[Row], known: list[Theorem]) -> str:
    """The page as MyST markdown."""
    heads = ["Statement", "Check", "Verdict", "Ours", "Within", "Paper", "Run"]
    every = table("rows", heads, [row_html(row) for row in rows])
    top = [INTRO, counts(rows, known), summary(rows), theorem_table(known)]
    return "\n".join([*top, "## Proofs and claims\n", every, "", LEGEND, CITE])


def plain_rows(rows: list[Row], origins: dict[str, dict]) -> list[dict]:
    """Every row as plain values, the same fields in each: what the downloads hold."""
    fields = ("scope", "measured", "unit", "within", "spread", "members", "paper", "source")
    return [
        {"row": row.anchor, "part": row.chapter.part, "chapter": row.chapter.name, "kind": row.record["kind"]}
        | {"statement": row.record["statement"], "check": row.check, "verdict": row.verdict}
        | {field: row.record.get(field) for field in fields}
        | {"profile": row.record.get("profile", "quick")}
        | {"device": origin.get("device"), "commit": origin["page"]}
        for row in rows
        for origin in [origins[f"book/{row.chapter.name}"]]
    ]


def as_csv(rows: list[dict]) -> str:
    """The rows as CSV; a pair of bounds is "low to high"."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["row"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v[0]} to {v[1]}" if isinstance(v, list | tuple) else v for k, v in row.items()})
    return text.getvalue()


def text_of(root: Path) -> str:
    return page(read_rows(root), theorems.theorems(root))


def update(root: Path) -> bool:
    """Write the page when its content changed; say whether it did."""
    text, path = text_of(root), root / PAGE
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    notebooks.write_atomic(path, text)
    return True


def write_downloads(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html" and provenance.SCOREBOARD in app.project.docnames:
        rows = plain_rows(read_rows(Path(app.srcdir)), app.env.symlib_origins)  # type: ignore[attr-defined]
        target = Path(app.outdir, PAGE)
        notebooks.write_atomic(target.with_suffix(".csv"), as_csv(rows))
        notebooks.write_atomic(target.with_suffix(".json"), json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.scoreboard", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the page is out of step")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    path = args.root / PAGE
    try:
        if not args.check:
            print(f"{PAGE}  {'written' if update(args.root) else 'unchanged'}")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text_of(args.root):
            raise ToolError(f"{PAGE} is out of step with the notebooks; run: make book")
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
