"""The scoreboard in a browser: filters stand in the address, rows can be cited, nothing needs a script."""

import csv
import json

import pytest

from tests.browser import DESKTOP, PHONE, address, browser, needs_browser, visit  # noqa: F401

pytestmark = needs_browser
PAGE = "book/appendix/scoreboard.html"
ROWS = "#rows tbody tr"


@pytest.fixture
def scoreboard(address, visit):  # noqa: F811
    """Open the scoreboard at a query or anchor."""

    def show(at="", width=DESKTOP):
        page, seen = visit(f"{address}/{PAGE}{at}", width=width)
        assert seen.errors == []
        return page

    return show


def shown(page) -> int:
    return page.evaluate(f"[...document.querySelectorAll('{ROWS}')].filter((row) => row.checkVisibility()).length")


def test_a_filter_shows_its_rows_and_stands_in_the_address(scoreboard):
    page = scoreboard()
    total = shown(page)
    page.locator("select[name=verdict]").select_option("not reproduced")
    few = shown(page)
    assert 0 < few == page.locator("tr[data-verdict='not reproduced']").count() < total
    assert page.locator(".table-filter output").inner_text() == f"{few} of {total} rows"
    assert page.url.endswith("?verdict=not+reproduced")
    page.locator("select[name=part]").select_option("Conservation")
    part = page.locator("tr[data-verdict='not reproduced'][data-part=Conservation]").count()
    assert 0 < shown(page) == part < few
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("!location.search")
    assert shown(page) == total


def test_an_address_with_filters_opens_filtered(scoreboard):
    page = scoreboard("?check=exhaustive&text=TANH+permutation")
    texts = page.locator(f"{ROWS}:not([hidden])").all_inner_texts()
    assert len(texts) == shown(page) > 0
    assert all("tanh" in text and "permutation" in text and "exhaustive" in text for text in map(str.lower, texts))
    assert page.get_by_label("Text", exact=True).input_value() == "TANH permutation"


COUNTS = f"""() => [...document.querySelectorAll("#summary a")].map((a) => [a.search, Number(a.text),
    [...document.querySelectorAll("{ROWS}")].filter((row) =>
        [...new URLSearchParams(a.search)].every(([key, value]) => row.dataset[key] === value)).length])"""


def test_every_count_of_the_summary_is_the_number_of_rows_behind_it(scoreboard):
    counts = scoreboard().evaluate(COUNTS)
    assert len(counts) > 20 and all(said == there for _, said, there in counts), counts


def test_the_address_of_a_row_shows_it_whatever_the_filter(scoreboard):
    row = scoreboard().locator("tr[data-verdict=reproduced]").first.get_attribute("id")
    page = scoreboard(f"?verdict=refuted#{row}")
    page.wait_for_function("row => document.getElementById(row).checkVisibility()", arg=row)
    assert page.locator(f"#{row} .row-link").get_attribute("href") == f"#{row}"


def test_the_columns_sort_from_the_keyboard(scoreboard):
    page = scoreboard("?check=measured")
    head = page.locator("#rows th").nth(3)
    for order, sign in (("ascending", 1), ("descending", -1)):
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        values = page.evaluate(
            f"[...document.querySelectorAll('{ROWS} td:nth-child(4)')].map((e) => parseFloat(e.firstChild.data))"
        )
        values = [sign * value for value in values if value is not None and value == value]
        assert len(values) > 500 and values == sorted(values)


def test_rows_are_cards_on_a_phone(scoreboard):
    page = scoreboard(width=PHONE)
    boxes = [page.locator(f"{ROWS}:first-child td").nth(i).bounding_box() for i in (0, 3, 6)]
    assert boxes[0]["y"] < boxes[1]["y"] < boxes[2]["y"]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= PHONE for box in boxes)


def test_every_row_and_every_badge_leads_to_a_card(address, visit, scoreboard):  # noqa: F811
    links = (
        scoreboard().locator(f"{ROWS} td:first-child a:not(.row-link)").evaluate_all("all => all.map((a) => a.href)")
    )
    chapters = dict.fromkeys(link.partition("#")[0] for link in links)
    assert len(links) > 600
    for chapter in chapters:
        page, _ = visit(chapter)
        cards = set(page.locator(".claim-card").evaluate_all("all => all.map((e) => e.id)"))
        badges = page.locator(".badge-list a").evaluate_all("all => all.map((a) => a.hash.slice(1))")
        wanted = [link.partition("#")[2] for link in links if link.startswith(f"{chapter}#")]
        assert {*wanted, *badges} <= cards, chapter
        boxes = page.locator("div.proof.theorem")
        assert boxes.count() == boxes.locator(".badge-list").count()


def test_the_page_stands_without_scripts(address, browser):  # noqa: F811
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{PAGE}")
    assert page.locator(ROWS).count() == shown(page) > 600
    assert page.locator(f"{ROWS} td:last-child code").count() == page.locator(ROWS).count()
    context.close()


def test_the_downloads_hold_every_row(scoreboard, address):  # noqa: F811
    page = scoreboard()
    ids = page.locator(ROWS).evaluate_all("all => all.map((row) => row.id.replace('row-', ''))")
    texts = {kind: page.request.get(f"{address}/book/appendix/scoreboard.{kind}").text() for kind in ("csv", "json")}
    assert ids == [row["row"] for row in csv.DictReader(texts["csv"].splitlines())]
    assert ids == [row["row"] for row in json.loads(texts["json"])]


def test_the_provenance_of_a_figure_is_a_click_away(address, visit):  # noqa: F811
    page, _ = visit(f"{address}/book/symmetries/what-is-a-parameter-symmetry.html", width=PHONE)
    figures = page.locator(".bd-article figure").count()
    details = page.locator("details.provenance")
    assert 0 < figures == details.count()
    assert not details.first.locator("dl").is_visible()
    details.first.locator("summary").press("Enter")
    text = details.first.inner_text()
    assert "code cell" in text and "make chapter C=symmetries/what-is-a-parameter-symmetry" in text
