"""Handing in an answer from a notebook: `submit` shows it as data, which the grader reads instead of the notebook.

An answer travels as plain JSON: numbers, text, truth values and lists of them. A tensor becomes nested lists, a sympy
expression its text; the grader parses that text itself and never runs it.
"""

import keyword
import math
from dataclasses import dataclass

import sympy
import torch
from sympy.logic.boolalg import BooleanAtom

from symlib import cards

MIME = "application/vnd.symlib.answer+json"


def plain(value: object, where: str = "the answer") -> object:
    """A value as plain JSON data; ValueError for one that has no such form.

    NaN and infinities become the texts 'nan', 'inf' and '-inf', which are no numbers to the grader.

    Source: ours.
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, torch.Tensor):
        return plain(value.detach().cpu().tolist(), where)
    if isinstance(value, BooleanAtom):
        return bool(value)
    if isinstance(value, sympy.Integer | sympy.Float):
        return plain(int(value) if value.is_Integer else float(value), where)
    if isinstance(value, sympy.MatrixBase):
        return plain(value.tolist(), where)
    if isinstance(value, sympy.Basic):
        unreadable = [str(s) for s in value.free_symbols if not str(s).isidentifier() or keyword.iskeyword(str(s))]
        if unreadable:
            raise ValueError(f"{where} has symbols {unreadable} whose names the grader cannot read")
        return str(value)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if hasattr(value, "tolist"):  # numpy
        return plain(value.tolist(), where)  # type: ignore[attr-defined]
    raise ValueError(
        f"{where} is a {type(value).__name__}; wanted a number, bool, text, tensor, sympy expression or matrix, "
        "or lists or dicts of these"
    )


@dataclass(frozen=True)
class Answer:
    """An answer as data, which shows itself as a line of text and, to the grader, as JSON.  Source: ours."""

    data: object

    def __repr__(self) -> str:
        text = str(self.data)
        shown = text if len(text) <= 300 else f"{text[:300]} ... ({len(text)} characters)"
        return "no answer yet" if self.data is None else f"submitted: {shown}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        return {"text/plain": repr(self), MIME: {"answer": self.data}}


def submit(value: object) -> None:
    """Hand in one answer: a number, bool, text, tensor, sympy expression or matrix, or lists or dicts of these.

    None means that there is no answer yet.  Source: ours.
    """
    cards.show(Answer(plain(value)))
