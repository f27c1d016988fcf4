"""The page that a student gets back: no scripts, formulas typeset, cells named by exercise, missing marks said.

nbgrader makes the page; what it would show of a stranger's markdown or leave unsaid is changed here.
"""

import html
import re
from typing import Any

import bleach
from jinja2 import pass_context
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbformat import NotebookNode
from sphinx.errors import ExtensionError

from tools import mathematics
from tools.assignments.source import ProblemSet

TEXT = {"br", "del", "div", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "img", "p", "pre", "span"}
TAGS = bleach.ALLOWED_TAGS | TEXT | {"table", "tbody", "td", "th", "thead", "tr"}
STYLE = "<style>.rendered_html tr > * { padding: 0.2em 0.8em; text-align: left; vertical-align: top }</style>"
SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
POLICY = """<meta http-equiv="Content-Security-Policy" content="script-src 'none'">"""
TYPESETTING = 60  # seconds for the formulas of a page
PICTURES = ("image/png", "image/jpeg")  # that may be pasted into a written answer


def allowed(tag: str, name: str, value: str) -> bool:
    """Links that leave the page, pictures that lie in it, and what marks a formula."""
    if (tag, name, value) == ("span", "class", "math"):
        return True
    if (tag, name) == ("img", "src"):
        return value.startswith(tuple(f"data:{kind};base64," for kind in PICTURES))
    return (tag, name) == ("img", "alt") or ((tag, name) == ("a", "href") and not value.startswith("data:"))


class MarkedMath(IPythonRenderer):
    """Formulas marked as the book's pages mark them, for `mathematics.formulas`."""

    def inline_math(self, body: str) -> str:
        return f'<span class="math">\\({self.escape_html(body)}\\)</span>'

    def block_math(self, body: str) -> str:
        return f'<span class="math">\\[{self.escape_html(body)}\\]</span>'

    def latex_environment(self, name: str, body: str) -> str:
        begin, end = f"\\begin{{{name}}}", f"\\end{{{name}}}"
        return f'<span class="math">{self.escape_html(begin + body + end)}</span>'


@pass_context
def safe_markdown(context: Any, source: str) -> str:
    """Markdown as HTML, cleaned after it was made so that `<` and `&` in a formula stay; as text where that fails."""
    attachments = (context.get("cell") or {}).get("attachments", {})
    try:
        made = MarkdownWithMath(
            renderer=MarkedMath(escape=False, attachments=attachments, exclude_anchor_links=True)
        ).render(source)
        return bleach.clean(made, tags=TAGS, attributes=allowed, protocols=["http", "https", "mailto", "data"])
    except Exception:  # whatever a stranger's text may do to three parsers
        return f"<pre>{html.escape(source)}</pre>"


class SafeOutputs(SanitizeHTML):
    """nbconvert's cleaning, of the outputs only: `safe_markdown` does the rest."""

    def preprocess_cell(self, cell: NotebookNode, resources: Any, cell_index: int) -> tuple[NotebookNode, Any]:
        if cell.cell_type == "code":
            cell.outputs = self.sanitize_code_outputs(cell.outputs)
        return cell, resources


def typeset(page: str) -> str:
    """The page with its formulas typeset and what they need inside it; one that is no TeX stays as it was written."""
    wanted = mathematics.formulas(page)
    try:
        done = mathematics.typeset(wanted, {}, TYPESETTING)
    except ExtensionError:
        return page
    written = {one: f"<code>{html.escape(one.tex)}</code>" for one in done.errors}
    style = f"<style>{mathematics.carry_fonts(done.css)}</style>"
    return mathematics.insert(page, done.rendered | written).replace("</head>", f"{style}</head>", 1)


def finished(page: str, problems: ProblemSet, points: dict[str, float | None]) -> str:
    """nbgrader's page without scripts, exercises for names in its list, `not yet marked` where it shows a zero."""
    page = SCRIPT.sub("", page).replace("<head>", f"<head>{POLICY}", 1)
    for exercise in problems.exercises:
        for cell in exercise.cells:
            link = f'<a href="#{cell.kind}-{cell.name}">'
            page = re.sub(f"{link}[^<]*</a>", f"{link}Exercise {exercise.number}: {cell.name}</a>", page, count=1)
            if points[cell.name] is None:
                score, waits = rf"Score: 0\.0 / {float(cell.points)}", f"not yet marked, {cell.points} points"
                page = re.sub(rf"({link}[^<]*</a> \(){score}", rf"\g<1>{waits}", page, count=1)
                heading = rf'(<a name="{cell.kind}-{cell.name}">(?:(?!Score:).)*){score}'
                page = re.sub(heading, rf"\g<1>{waits}", page, count=1, flags=re.DOTALL)
    page = re.sub(r'<li><a href="#comment-answer-[^"]*">Comment</a></li>\s*', "", page)  # nbgrader's "No response."
    waiting = sum(cell.points for cell in problems.kind("written") if points[cell.name] is None)
    if waiting:
        page = re.sub(r"(<h4>[^<]*Score: [\d. /]+)\)", rf"\g<1>, {waiting} points not yet marked)", page, count=1)
    return typeset(page.replace("</head>", f"{STYLE}</head>", 1))
