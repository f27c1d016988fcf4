"""The chapters of the book: which they are, how one is read, executed, cleaned and written.

A chapter is a pair: `book/<name>.md` (MyST source, edited) and `book/<name>.ipynb` (the same, executed).
Run as `python -m tools.notebooks`, prints the path of every executed notebook.
"""

import ast
import contextlib
import copy
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"}


class ToolError(Exception):
    """What a tool tells the person who called it, without a traceback."""


@dataclass(frozen=True)
class Chapter:
    """A chapter of `_toc.yml`; `name` is its address, such as `conservation/noether-for-gradient-flow`."""

    root: Path
    name: str
    part: str

    @property
    def source(self) -> Path:
        return self.root / "book" / f"{self.name}.md"

    @property
    def notebook(self) -> Path:
        return self.root / "book" / f"{self.name}.ipynb"


def toc_files(root: Path) -> Iterator[tuple[str, str]]:
    """Every (part caption, file) of `_toc.yml`, in reading order; the root page has the caption ''."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))

    def walk(node: dict, caption: str) -> Iterator[tuple[str, str]]:
        for entry in node.get("chapters", []) + node.get("sections", []):
            if "file" in entry:
                yield caption, entry["file"]
            yield from walk(entry, caption)

    yield "", toc["root"]
    for part in toc.get("parts", []):
        yield from walk(part, part.get("caption", ""))
    yield from walk(toc, "")


def chapters(root: Path) -> list[Chapter]:
    """The chapters with code, in reading order: the files that `_toc.yml` names with the suffix .ipynb."""
    return [
        Chapter(root, file.removeprefix("book/").removesuffix(".ipynb"), part)
        for part, file in toc_files(root)
        if file.endswith(".ipynb")
    ]


def choose(known: list[Chapter], wanted: str) -> list[Chapter]:
    """The chapters that `wanted` names: full names or unambiguous last parts, split at commas or spaces.

    An empty `wanted` is all of them. Raises ToolError on a name that fits none or several.
    """
    chosen = []
    for word in re.split(r"[,\s]+", wanted.strip()) if wanted.strip() else []:
        name = word.removeprefix("book/").removesuffix(".ipynb").removesuffix(".md")
        fits = [c for c in known if c.name == name] or [c for c in known if c.name.split("/")[-1] == name]
        if len(fits) != 1:
            problem = f"names {len(fits)} chapters" if fits else "is no chapter of _toc.yml"
            raise ToolError(f"C={word} {problem}; known: " + ", ".join(c.name for c in known))
        chosen += [fits[0]] if fits[0] not in chosen else []
    return chosen or list(known)


def read_source(chapter: Chapter) -> NotebookNode:
    """The chapter as written in its .md, without outputs."""
    if not chapter.source.is_file():
        raise ToolError(f"{chapter.name}: _toc.yml names it, but {chapter.source} does not exist")
    return jupytext.read(chapter.source, fmt="md:myst")


def is_tagged(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    """The code cells as written, without the one that papermill injects."""
    return [c for c in nb.cells if c.cell_type == "code" and not is_tagged(c, "injected-parameters")]


def records(nb: NotebookNode) -> Iterator[tuple[NotebookNode, dict]]:
    """Every (cell, record) of a claim or proof that the executed notebook displays."""
    for cell in code_cells(nb):
        for output in cell.get("outputs", []):
            if "symlib" in output.get("metadata", {}):
                yield cell, output.metadata["symlib"]


def defaults(nb: NotebookNode) -> dict[str, object]:
    """Names and default values of the cell tagged `parameters` (empty when there is none)."""
    values: dict[str, object] = {}
    for cell in code_cells(nb):
        if is_tagged(cell, "parameters"):
            for node in ast.parse(cell.source).body:
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                    values |= {t.id: ast.literal_eval(node.value) for t in targets if isinstance(t, ast.Name)}
    return values


def convert(chapter: str, name: str, text: str, known: dict[str, object]) -> object:
    """`text` as a value of the type of the default of `name`; ToolError when either does not fit."""
    if name not in known:
        raise ToolError(f"{chapter} has no parameter '{name}'; it has: {', '.join(known) or 'none'}")
    if isinstance(known[name], str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    wanted = type(known[name])
    if wanted is float and type(value) is int:
        return float(value)
    if known[name] is not None and type(value) is not wanted:
        raise ToolError(f"{chapter}: parameter '{name}' is of type {wanted.__name__}, got '{text}'")
    return value


@dataclass(frozen=True)
class Failure:
    """The first error of an executed notebook: code cell, line of its source, and what was raised."""

    cell: int
    line: str
    where: str
    error: str

    def __str__(self) -> str:
        return f"code cell {self.cell} ({self.where}): {self.line}\n    {self.error}"


def failure(chapter: Chapter, nb: NotebookNode) -> Failure | None:
    """The first failing cell of an executed notebook, or None."""
    for number, cell in enumerate(code_cells(nb), start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                trace = ANSI.sub("", "\n".join(output.traceback))
                frames = re.findall(r"(?:Cell|Input) In ?\[\d+\], line (\d+)", trace)
                lines = cell.source.splitlines()
                at = min(int(frames[0]), len(lines)) if frames else 1
                before = chapter.source.read_text(encoding="utf-8").partition(cell.source)[0]
                where = f"{chapter.source.relative_to(chapter.root)}:{before.count(chr(10)) + at}"
                error = ANSI.sub("", f"{output.ename}: {output.evalue}").strip()
                return Failure(number, lines[at - 1].strip() if lines else "", where, error)
    return None


def execute(chapter: Chapter, path: Path, parameters: dict[str, object]) -> NotebookNode:
    """Run the chapter with papermill in its own folder; what ran, complete or not, is left at `path`.

    The caller looks for a `failure`: a cell that raises is a result here, not an exception.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    source = read_source(chapter)
    source.metadata.kernelspec = NotebookNode(KERNEL)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = chapter.source.parent
    with contextlib.suppress(PapermillExecutionError):  # it stands in the notebook as an error output
        papermill.execute_notebook(source, path, parameters, cwd=folder, progress_bar=False)
    return nbformat.read(path, as_version=4)


def clean(nb: NotebookNode) -> NotebookNode:
    """A copy of an executed notebook that depends on nothing but its content.

    Cell ids are a hash of type and source; the injected cell, papermill's and the kernel's run metadata and
    the Python patch version go, the provenance under `symlib` stays; execution counts are 1..n; a stream sent in
    several pieces becomes one.
    """
    nb = copy.deepcopy(nb)
    nb.cells = [c for c in nb.cells if not is_tagged(c, "injected-parameters")]
    kept = {key: nb.metadata[key] for key in ("jupytext", "symlib") if key in nb.metadata}
    nb.metadata = nbformat.from_dict(kept | {"kernelspec": KERNEL, "language_info": LANGUAGE})
    nb.nbformat, nb.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in nb.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        digest = hashlib.sha1(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    for count, cell in enumerate((c for c in nb.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
        cell.outputs = merge_streams(cell.outputs)
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return nb


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Neighbouring pieces of one stream joined: how text is cut into pieces depends on timing."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def to_json(nb: NotebookNode) -> str:
    """The notebook as the text of an .ipynb file."""
    nbformat.validate(nb)
    return nbformat.writes(nb) + "\n"


def write_atomic(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader, or a kill at any moment, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    for chapter in chapters(ROOT):
        print(chapter.notebook.relative_to(ROOT))


if __name__ == "__main__":
    main()
