"""Figures with a slider: what Python draws, what the browser moves, and what stays without a script."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from symlib import interactive
from symlib.interactive import Panel, dots, line
from tests.browser import axe_problems, loading_problems, needs_browser, overflow_problems, serve
from tools.notebooks import ROOT

STATIC = ROOT / "book/_static"
X, FRAMES = np.linspace(0, 2, 5), np.arange(3.0)


def sample(**more):
    """One panel: a standing line, a moving one, and a moving disc; three positions."""
    marks = [line(X, X**2, "#1f77b4", "square"), line(X, FRAMES[:, None] * X), dots(FRAMES[:, None], FRAMES[:, None])]
    given = dict(
        slider="slope", at=["zero", "one", "two"], alt="A line turns", numbers={"end": ["0", "2", "4"]}, first=1
    )
    return interactive.figure([Panel(marks, "x", "y")], **(given | more))


def markup(figure) -> str:
    return figure._repr_mimebundle_()["text/html"]


def states(text: str) -> list[list[str]]:
    return json.loads(re.search(r"<script[^>]*>(.*)</script>", text)[1])


def test_the_drawn_state_is_the_first_one():
    text = markup(sample())
    moving = re.findall(r'<path d="([^"]*)"[^>]* data-moves/>', text)
    assert moving == [path[1] for path in states(text)[:2]]
    assert ">one</b>" in text and ">2</b>" in text


def test_what_moves_has_a_state_for_each_position_and_what_stands_still_has_none():
    text = markup(sample())
    assert [len(s) for s in states(text)] == [3, 3, 3, 3]  # a line, a disc, the position, a number
    assert text.count("data-moves") == 4


def test_places_are_those_of_the_values():
    panel = Panel(
        [line([0, 1], [0, 1]), dots([0, 0.5, 1], [1, 10, 100])], "x", "y", log="y", xlim=(0, 1), ylim=(1, 100)
    )
    text = markup(interactive.figure([panel], slider="s", at=["a"], alt="t"))
    left, right = interactive.LEFT, interactive.WIDTH - interactive.RIGHT
    top, low = interactive.TOP, interactive.HEIGHT - interactive.BOTTOM
    assert f"M{left},{low}h0M{(left + right) // 2},{(low + top) // 2}h0M{right},{top}h0" in text


def test_a_line_breaks_where_a_point_is_not_finite():
    text = markup(
        interactive.figure([Panel([line(X, [0, 1, np.nan, 1, 2], "red")], "x", "y")], slider="s", at=["a"], alt="t")
    )
    trace = re.search(r'd="([^"]*)"[^>]*stroke="red"', text)[1]
    assert trace.count("M") == 2 and trace.count("L") == 2


def test_what_lies_outside_the_limits_is_not_drawn():
    panel = Panel([line([0, 1, 2], [0, 1, 5], "red")], "x", "y", ylim=(0, 2))
    text = markup(interactive.figure([panel], slider="s", at=["a"], alt="t"))
    assert re.search(r'd="([^"]*)"[^>]*stroke="red"', text)[1].count(",") == 2


def test_it_looks_sane_without_the_style_of_the_site():
    text = markup(sample())
    for path in re.findall(r"<path[^>]*>", text):
        assert 'stroke="' in path and ("fill" in path or "v9" in path or "h-9" in path)  # a tick has no inside
    assert '<div class="controls" hidden>' in text and 'role="img" aria-label="A line turns"' in text


def test_words_are_escaped():
    text = markup(sample(alt='a "<b>"', at=["<i>", "</script>", "&"], slider="<s>"))
    assert "<i>" not in text and "<s>" not in text and text.count("</script>") == 1 and '<b>"' not in text


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: sample(at=["a", "b"]), "a mark should have 2"),
        (lambda: sample(numbers={"end": ["1"]}), "'end' should have 3"),
        (lambda: sample(first=3), "first should be one of 3"),
        (lambda: dots([1, 2], [1, 2, 3]), "do not fit together"),
        (lambda: line(np.zeros((2, 2, 2)), 0), "wanted points"),
    ],
)
def test_what_does_not_fit_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(("low", "high", "log"), [(0, 1, False), (-3, 997, False), (1e-4, 0.3, True), (0.9, 3.8, True)])
def test_ticks_are_few_and_inside(low, high, log):
    found = interactive._Scale(low, high, log, 0, 100).ticks()
    assert 2 <= len(found) <= 7 and all(low <= t <= high for t in found) and found == sorted(found)


# --- in the browser ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Pages with the sample, with the script and style of the site; and one whose script is a mutant."""
    folder = tmp_path_factory.mktemp("interactive")
    script = (STATIC / "interactive.js").read_text()
    still = script.replace('setAttribute("d"', 'setAttribute("data-d"')
    assert still != script
    for name, code in (("page", script), ("mutant", still)):
        body = f"<h1>Figure</h1>{markup(sample(play=True))}<script>{code}</script>"
        style = (STATIC / "interactive.css").read_text()
        head = f'<meta charset="utf-8"><title>Figure</title><link rel="icon" href="data:,"><style>{style}</style>'
        (folder / f"{name}.html").write_text(f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}')
    yield from serve(folder)


def look(page) -> SimpleNamespace:
    """What the reader sees: the drawn paths, the words below, and what a screen reader says of the slider."""
    return SimpleNamespace(
        paths=page.locator("path[data-moves]").evaluate_all("all => all.map((e) => e.getAttribute('d'))"),
        words=page.locator("b[data-moves]").all_text_contents(),
        said=page.locator("input").get_attribute("aria-valuetext"),
    )


def slider_problems(page) -> list[str]:
    """The slider, moved with the keyboard, shows each state that Python computed."""
    wanted, problems = states(page.content()), []
    page.locator("input").focus()
    page.keyboard.press("Home")
    for frame in range(3):
        seen = look(page)
        if seen.paths != [s[frame] for s in wanted[:2]]:
            problems.append(f"position {frame}: the drawing is another one")
        if seen.words != [s[frame] for s in wanted[2:]] or not all(word in seen.said for word in seen.words):
            problems.append(f"position {frame}: the words are {seen.words}, said {seen.said!r}")
        page.keyboard.press("ArrowRight")
    return problems


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_slider_moves_the_figure_from_the_keyboard(site, visit, scheme):
    page, seen = visit(f"{site}/page.html", width=390, scheme=scheme)
    assert slider_problems(page) + loading_problems(page, seen) + overflow_problems(page) + axe_problems(page) == []


@needs_browser
def test_a_script_that_does_not_move_the_paths_is_noticed(site, visit):
    assert "the drawing is another one" in "\n".join(slider_problems(visit(f"{site}/mutant.html")[0]))


@needs_browser
def test_play_runs_to_the_end_and_is_not_offered_to_who_asked_for_less_motion(site, visit):
    page, _ = visit(f"{site}/page.html")
    assert not page.locator("button").is_visible()
    page.emulate_media(reduced_motion="no-preference")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("button").inner_text() == "Pause"
    page.wait_for_function("document.querySelector('input').value === '2'")
    assert page.locator("button").inner_text() == "Play"
    assert look(page).words == ["two", "4"]


@needs_browser
def test_without_scripts_and_in_print_the_drawn_state_stands_alone(site, browser, visit):
    context = browser.new_context(java_script_enabled=False)
    bare = context.new_page()
    bare.goto(f"{site}/page.html")
    printed, _ = visit(f"{site}/page.html")
    printed.emulate_media(media="print")
    for page in (bare, printed):
        assert page.locator("svg").is_visible() and not page.locator("input").is_visible()
        assert page.locator("b").first.inner_text() == "one"
    context.close()
