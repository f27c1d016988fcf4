"""The source of a problem set and the reading of answers: what is accepted, and mutants that must be refused."""

import re

import pytest
import sympy
import torch
from attacks import EXAMPLE

from symlib import answers as handing_in
from tools.assignments import answers, notebooks, reading, trial
from tools.notebooks import ToolError

TEXT = EXAMPLE.read_text()
X, Y = sympy.symbols("x y")

MUTANTS = [
    ("tags: [answer]\nname: law", "tags: [anser]\nname: law", r"example.md:3\d: tags .'anser'.: wanted at most one of"),
    ("tags: [answer]\nname: law", "tags: [answer]\nname: Law", "must be lower-case words"),
    ("tags: [answer]\nname: law", "tags: [answer]\ntitle: law", "has the keys"),
    ("### END SOLUTION", "### END", "must come in pairs"),
    ("    ### BEGIN SOLUTION\n", "", "must come in pairs"),
    ("    ### END SOLUTION", "  ### END SOLUTION", "must come in pairs|unindent|indent"),
    (
        "from symlib.answers import submit\n",
        "from symlib.answers import submit\n### BEGIN SOLUTION\n",
        "outside an answer",
    ),
    ("submit(law)", "print(law)", "must end in its one call"),
    ("submit(law)", "submit(law)\nsubmit(law)", "must end in its one call"),
    ("submit(law)", "law = law + fresh\nsubmit(law)", "the first line is not 'fresh = 0'"),
    ("def check_law(", "def check_lw(", "checks no submit cell"),
    ("def check_law(answer, fresh)", "def check_law(answer)", "must take .answer, fresh."),
    ("def check_cube(", "def other(", "no check_cube for the submit cell"),
    ("Exercise 1 (3 points)", "Exercise 1 (4 points)", "add up to 3"),
    ("## Exercise 1 (3 points)", "# Exercise 1 (3 points)", "an exercise heading is not"),
    ("Exercise 2 (6", "Exercise 3 (6", "should be number 2"),
    ("+++\n\n## Exercise 2", '+++ {"tags": ["solution"]}\n\n## Exercise 2', "an exercise heading is not"),
    ("replaces: law\nloses: [law]", "replaces: lw\nloses: [law]", "unknown answer 'lw'"),
    ("replaces: law\nloses: [law]", "replaces: law\nloses: [lw]", "loses unknown submit cells"),
    ("replaces: law\nloses: [law]", "replaces: law\nloses: []", "loses must be a list"),
    ("# the sum instead of the difference\n", "", "no comment that names the mistake"),
    ("name: cube\npoints: 4", "name: law\npoints: 4", "a second 'law'"),
    ("points: 3", "points: 0", "points must be a whole number"),
    ("points: 3", "points: true", "points must be a whole number"),
    ("law = (w - a) * (w + a) / 2", "law = %matplotlib", "invalid syntax"),
    ("from symlib.answers import submit\n", "", "no ordinary code cell has"),
    ("# A small set", "A small set", "does not begin with a title"),
]


def test_the_example_is_read():
    problems = reading.read(EXAMPLE)
    assert (problems.name, problems.title, problems.points) == ("example", "A small set", 9)
    assert [(e.points, [c.name for c in e.cells]) for e in problems.exercises] == [
        (3, ["law"]),
        (6, ["cube", "why-odd"]),
    ]
    assert [c.is_fresh for c in problems.kind("submit")] == [False, True]
    law, cube = problems.kind("answer")
    assert law.stub == "law = None  # a sympy expression in a and w\n# your answer here"
    assert cube.stub.endswith('\n    raise NotImplementedError("your answer here")')
    released = "".join(c.source for c in notebooks.stripped(problems).cells)
    assert "secret" not in released and "check_" not in released


@pytest.mark.parametrize(("old", "new", "reason"), MUTANTS)
def test_a_malformed_set_is_refused_with_its_reason(tmp_path, old, new, reason):
    assert old in TEXT
    path = tmp_path / "example.md"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ToolError, match=reason) as refused:
        reading.read(path)
    assert re.match(r"example\.md:\d+: ", str(refused.value)) or "title" in reason


def test_a_trial_finds_every_variant_as_wanted_and_a_false_claim_not(tmp_path):
    example = reading.read(EXAMPLE)
    good = {o.variant.title.split()[0] for o in trial.outcomes(example, trial.variants(example)) if o.as_wanted}
    assert good == {"reference", "stubs", "wrong", "equivalent"}
    path = tmp_path / "example.md"
    path.write_text(TEXT.replace("law = (w - a) * (w + a) / 2", "law = w + a"))
    false = reading.read(path)
    bad = [o.variant.title for o in trial.outcomes(false, trial.variants(false)) if not o.as_wanted]
    assert len(bad) == 1 and bad[0].startswith("equivalent law")


# --- answers -----------------------------------------------------------------------------------------------

HOSTILE = [
    "__import__('os').getpid()",
    "().__class__", "x.diff", "lambda: 1", "[x for x in y]", "x if y else x", "'x'", "x[0]",
    "open", "exp(x, y=1)", "exp(*x)", "9**9**9", "2**(10**9)", "x**(1000)", "1e400", "x and y", "x < y", "z", "f(x)",
    "(" * 300 + "x" + ")" * 300, "x" + "+x" * 3000, "1" * 5000, "\x00", "", "x; y", "x := 1", "True", "...", "x // y",
    "((9**24)**24)**24", "1j",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: t[:20] or "empty")
def test_a_hostile_formula_is_refused(text):
    with pytest.raises(AssertionError):
        answers.formula(text, [X, Y])


EQUAL = [
    ("(x + y)**2", X**2 + 2 * X * Y + Y**2), ("x/y + y/x", (X**2 + Y**2) / (X * Y)), ("0.5*x", X / 2),
    ("exp(x)*exp(-y)", sympy.exp(X - Y)), ("sin(x)**2 + cos(x)**2", sympy.Integer(1)), ("sqrt(x**2)", sympy.Abs(X)),
    ("tanh(x)", (sympy.exp(2 * X) - 1) / (sympy.exp(2 * X) + 1)), (3, sympy.Integer(3)), ("-x**2", -(X**2)),
    ("log(exp(x))", X), ("2*pi*E", 2 * sympy.pi * sympy.E),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), EQUAL, ids=lambda v: str(v))
def test_an_equivalent_formula_is_the_same_and_a_near_one_is_not(text, wanted):
    got = answers.formula(text, [X, Y])
    answers.same(got, wanted)
    with pytest.raises(AssertionError, match="your formula is"):
        answers.same(got + sympy.Rational(1, 10**9), wanted)


def test_symbols_are_matched_by_name_and_keep_the_graders_assumptions():
    positive = sympy.Symbol("x", positive=True)
    answers.same(answers.formula(handing_in.plain(sympy.sqrt(X**2)), [positive]), positive)


READ = [
    (answers.number, (1.5, 1.5), (2, 2.0), ("1/3", 1 / 3), ("sqrt(2)", 2**0.5)),
    (answers.whole, (3, 3), (3.0, 3)),
    (answers.truth, (True, True)),
    (lambda a: answers.word(a, ["saddle", "minimum"]), (" Saddle ", "saddle")),
]
REFUSED = [
    (answers.number, True, None, "nan", "inf", "x", [1], {"a": 1}, 10**400, float("nan")),
    (answers.whole, True, 1.5, "3", float("inf")),
    (answers.truth, 1, "True", None),
    (lambda a: answers.word(a, ["saddle"]), "maximum", 1, ["saddle"]),
    (lambda a: answers.array(a, (2,)), [1], [1, 2, 3], [1, True], [1, "nan"], [[1], [2]], 1, "12", None),
    (lambda a: answers.formulas(a, [X], 2), ["x"], ["x", "x", "x"], "x", ["x", ["y"]]),
    (lambda a: answers.formula(a, [X]), None, True, ["x"], {"x": 1}),
]


@pytest.mark.parametrize("case", READ)
def test_an_answer_is_read(case):
    read, *pairs = case
    for answer, value in pairs:
        assert read(answer) == pytest.approx(value) and type(read(answer)) is type(value)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_answer_is_refused_with_what_was_wanted(case):
    read, *wrong = case
    for answer in wrong:
        with pytest.raises(AssertionError, match=r"wanted|is not one of"):
            read(answer)


def test_arrays_keep_shape_and_values_and_are_compared_relatively():
    value = torch.arange(6, dtype=torch.float64).reshape(3, 2)
    got = answers.array(handing_in.plain(value), (3, 2))
    assert torch.equal(got, value)
    assert answers.array([], (0, 3)).shape == (0, 3)
    answers.near(got * (1 + 1e-9), value, tolerance=1e-8, what="it")
    with pytest.raises(AssertionError, match=r"it: relative error 1e-07, wanted at most 1e-08"):
        answers.near(got * (1 + 1e-7), value, tolerance=1e-8, what="it")
    with pytest.raises(AssertionError, match="wanted shape"):
        answers.near(got[:2], value, tolerance=1, what="it")


def test_what_is_submitted_is_plain_data():
    plain = handing_in.plain
    assert plain([torch.tensor(1.5), sympy.Integer(2), sympy.true, X / 2, None, float("inf")]) == [
        1.5, 2, True, "x/2", None, "inf",
    ]  # fmt: skip
    assert plain({"a": sympy.Matrix([[X, 1]])}) == {"a": [["x", 1]]}
    with pytest.raises(ValueError, match="names the grader cannot read"):
        plain(sympy.Symbol("lambda"))
    with pytest.raises(ValueError, match=r"the answer\[0\] is a object; wanted a number"):
        plain([object()])
    assert repr(handing_in.Answer(None)) == "no answer yet"
