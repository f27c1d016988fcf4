"""Mathematics of the pages: found, typeset by MathJax, put back; TeX that is wrong is said to be."""

import base64
import io
import re

import pytest
from fontTools.ttLib import TTFont
from sphinx.errors import ExtensionError

from tools import mathematics
from tools.mathematics import Formula

MATH = 'class="math notranslate nohighlight"'
FOUND = {
    f"<span {MATH}>\\(x &lt; 1\\)</span>": {Formula("x < 1", False)},
    f'<div {MATH} id="equation-a">\n<span class="eqno">(1)<a href="#a">#</a></span>\\[y\\]</div>': {Formula("y", True)},
    f"<div {MATH}>\\[\\begin{{split}}a \\\\[2pt] b\\end{{split}}\\]</div>": {
        Formula("\\begin{split}a \\\\[2pt] b\\end{split}", True)
    },
    '<div class="amsmath math">\\begin{align}a\\end{align}</div>': {Formula("\\begin{align}a\\end{align}", True)},
    f"<span {MATH}>\\(a\\)</span><span {MATH}>\\(b\\)</span>": {Formula("a", False), Formula("b", False)},
    "<pre>\\(a\\)</pre><code class='mathematics'>\\(b\\)</code><span class=\"aftermath\">\\(c\\)</span>": set(),
}


@pytest.mark.parametrize("page", FOUND)
def test_formulas_are_found(page):
    assert mathematics.formulas(page) == FOUND[page]


@pytest.fixture(scope="module")
def done() -> mathematics.Typeset:
    wanted = {
        Formula("x^2", False), Formula("x^2", True), Formula("\\GL(n)", False), Formula("\\frac{", False),
        Formula("\\nosuchmacro", False), Formula("\\begin{align}a &= b \\\\ c &= d\\end{align}", True),
        Formula("\\mathfrak g \\subset \\mathbb R", False), Formula("\\require{cancel}\\cancel x", False),
    }  # fmt: skip
    return mathematics.typeset(wanted, {"GL": "\\mathrm{GL}"})


def test_what_is_typeset_can_be_seen_and_heard(done):
    html = done.rendered[Formula("x^2", False)]
    assert html.startswith("<mjx-container") and 'display="true"' not in html
    assert "<math><msup><mi>x</mi><mn>2</mn></msup></math>" in html
    assert 'display="true"' in done.rendered[Formula("x^2", True)]
    assert ">GL</mi>" in done.rendered[Formula("\\GL(n)", False)]


def test_tex_that_is_wrong_is_no_formula(done):
    loads = Formula("\\require{cancel}\\cancel x", False)  # by name, so from anywhere on the disk
    assert set(done.errors) == {Formula("\\frac{", False), Formula("\\nosuchmacro", False), loads}
    assert "Missing close brace" in done.errors[Formula("\\frac{", False)]
    assert "Undefined control sequence" in done.errors[Formula("\\nosuchmacro", False)]


def held(css: str) -> dict[str, set[int]]:
    """The characters of the fonts inside a sheet, by family."""
    faces = re.findall(r'font-family: ([\w-]+);\s*src: url\("data:font/woff;base64,([^"]+)"\)', css)
    return {family: set(TTFont(io.BytesIO(base64.b64decode(data))).getBestCmap()) for family, data in faces}


def test_the_sheet_has_the_glyphs_used_and_their_fonts(done):
    assert "mjx-c1D465" in done.css and "mjx-c1D467" not in done.css
    sheet = mathematics.carry_fonts(done.css)
    fonts = held(sheet)
    assert ord("x") in fonts["MJXTEX-I"] and ord("z") not in fonts["MJXTEX-I"] and ord("2") in fonts["MJXTEX"]
    assert ord("g") in fonts["MJXTEX-FR"] and {"MJXTEX-SS", "MJXTEX-C"}.isdisjoint(fonts)
    assert ".woff" not in sheet and len(sheet) < 100_000


@pytest.mark.parametrize(
    ("rule", "families", "character"),
    [
        ('mjx-c.mjx-c221A.TEX-S1::before {\n  padding: 0;\n  content: "\\221A";\n}', ["MJXTEX-S1"], 0x221A),
        ('mjx-c.mjx-c5C::before {\n  content: "\\\\";\n}', mathematics.PIECES, ord("\\")),
        ('mjx-c.mjx-c22::before {\n  content: "\\"";\n}', mathematics.PIECES, ord('"')),
        ('mjx-stretchy-v.mjx-c5B mjx-ext mjx-c::before {\n  content: "\\23A2";\n}', mathematics.PIECES, 0x23A2),
    ],
)
def test_characters_are_read_from_the_rules(rule, families, character):
    assert mathematics.characters(rule) == {
        "MJXZERO": {0xEFFC},
        **{family: {32, character} for family in families},
    }


def test_inserting_leaves_no_tex_and_the_rest_alone(done):
    page = f'<p>\\(x^2\\)</p><span {MATH}>\\(x^2\\)</span><div {MATH}><span class="eqno">(1)</span>\\[x^2\\]</div>'
    once = mathematics.insert(page, done.rendered)
    assert once.startswith(f"<p>\\(x^2\\)</p><span {MATH}><mjx-container")
    assert '<span class="eqno">(1)</span><mjx-container' in once
    assert mathematics.formulas(once) == set() and mathematics.insert(once, {}) == once


def test_typesetting_that_takes_too_long_is_an_error():
    with pytest.raises(ExtensionError, match=r"more than 0\.01 s for 1 formulas"):
        mathematics.typeset({Formula("x", False)}, {}, seconds=0.01)
