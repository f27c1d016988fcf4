"""What the build mends in the theme's pages: what they load, their first colours, printed columns, the icons."""

import io

import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from tools import fonts, icons, theme

HEAD = """<html lang="en" data-theme="auto">
<script>
    document.documentElement.dataset.theme = localStorage.getItem("theme") || "auto";
</script>
<script defer src="../_static/scripts/fontawesome.js?digest=55"></script>
<script src="../_static/searchtools.js"></script>
<script src="../_static/language_data.js"></script>
<script src="../searchindex.js"></script>
<script src="../_static/table.js"></script>"""


def test_only_the_search_page_loads_the_index_and_none_the_icon_script():
    page, search = (theme.loads_what_it_uses(HEAD, is_search) for is_search in (False, True))
    assert "fontawesome" not in page + search
    assert [name in page for name in ("searchtools", "language_data", "searchindex", "table.js")] == [False] * 3 + [
        True
    ]
    assert [name in search for name in ("searchtools", "language_data", "searchindex", "table.js")] == [True] * 4


def test_the_colour_scheme_is_set_before_the_first_paint():
    page = theme.sets_scheme_first(HEAD)
    assert 'data-theme="light"' in page and "prefers-color-scheme" in page and '"auto"' not in page


def printed(text: str) -> str:
    return f'<div class="output stream notranslate"><div class="highlight"><pre><span></span>{text}\n</pre></div></div>'


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("width  loss\n   16  0.3", True),
        ("a sentence that is long\nand another  one", False),
        ("    indented\n    twice", False),
        ("one  row", False),
    ],
)
def test_columns_are_told_from_sentences(text, columns):
    page = theme.marks_columns(printed(text))
    assert (page != printed(text)) == ('<pre class="columns">' in page) == columns
    assert theme.marks_columns(page) == page


def test_code_is_not_marked():
    code = printed("a  b\nc  d").replace("output stream", "highlight-ipython3")
    assert theme.marks_columns(code) == code


def test_a_page_with_a_table_waits_for_the_first():
    page = "<title>T</title><table>1</table><p>on</p><table>2</table>"
    waits = theme.paints_whole_table(page)
    assert f'href="#{theme.READ}" blocking="render"' in waits
    assert f'<table>1</table><span id="{theme.READ}"></span><p>on</p><table>2</table>' in waits
    assert (
        theme.paints_whole_table(waits) == waits and theme.paints_whole_table("<title>T</title>") == "<title>T</title>"
    )


def test_a_figure_has_its_place_before_it_comes(tmp_path):
    Image.new("RGB", (60, 20)).save(tmp_path / "a.png")
    page = '<figure class="align-default" id="x">\n<img alt="A &gt; B" src="a.png" />\n</figure><img src="b.png" />'
    boxed = theme.keeps_place_of_figures(page, tmp_path)
    assert '<div class="figure-scroll"><img width="60" height="20" style="--natural: 60px" alt="A &gt; B"' in boxed
    assert boxed.endswith('</div>\n</figure><img src="b.png" />')
    assert theme.keeps_place_of_figures(boxed, tmp_path) == boxed


def test_icons_are_named_by_the_classes_of_a_page():
    assert icons.names('<i class="fa-solid fa-bars"></i><p>fa-moon</p>') == {"fa-solid", "fa-bars"}


@pytest.fixture(scope="module")
def sheets() -> tuple[str, str]:
    whole = (theme.STATIC / theme.SHEET).read_text(encoding="utf-8")
    return whole, icons.trim(whole, theme.STATIC / theme.FONT, {"fa-solid", "fa-bars", "fa-search"})


def test_the_sheet_keeps_the_icons_in_use(sheets):
    whole, trimmed = sheets
    assert ".fa-bars:before" in trimmed and ".fa-magnifying-glass:before" in trimmed  # fa-search is its other name
    assert ".fa-hippo:before" in whole and ".fa-hippo:before" not in trimmed
    assert "fa-solid-900" not in trimmed and len(trimmed) < 0.9 * len(whole)
    assert ".admonition-title" in trimmed and trimmed.count("{") == trimmed.count("}")


def test_the_font_has_the_characters_in_use_and_not_the_name():
    font = TTFont(io.BytesIO(fonts.cut(theme.STATIC / theme.FONT, {0xF0C9, 0xF002}, icons.NAME)))
    assert set(font.getBestCmap()) == {0xF0C9, 0xF002}
    held = " ".join(str(record) for record in font["name"].names if record.nameID in fonts.NAMES)
    assert "Awesome" not in held and icons.NAME in held
