"""Links: those inside the built site lead somewhere; those that leave it are asked for by `make links`."""

import http.server
import threading

import pytest

from tools import book, links
from tools.notebooks import ROOT

PAGE = '<html><body><h1 id="top">A page</h1>{}</body></html>'


def site(folder, **bodies):
    """A site of pages a and b; a keyword gives the body of a page."""
    for name in ("a", "b"):
        (folder / f"{name}.html").write_text(PAGE.format(bodies.get(name, "")))
    (folder / "style.css").write_text("")
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "index.html").write_text(PAGE.format(""))
    return folder


SOUND = '<a href="b.html#top">b</a><a href="#top">up</a><a href="sub/">sub</a><link href="style.css?v=1">'


def test_sound_links_pass(tmp_path):
    assert links.internal_problems(site(tmp_path, a=SOUND)) == []


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ('<a href="c.html">', "c.html: no such file"),
        ('<a href="b.html#middle">', "b.html#middle: no such place"),
        ('<a href="#middle">', "#middle: no such place"),
        ('<img src="a.png">', "a.png: no such file"),
        ('<a href="../../">', "no such file"),
        ('<a href="nothing%20here.html">', "no such file"),
    ],
)
def test_a_broken_link_is_named_with_its_page(tmp_path, link, says):
    (problem,) = links.internal_problems(site(tmp_path, a=SOUND, b=link))
    assert problem.startswith("b.html: ") and says in problem


def test_every_link_inside_the_book_leads_somewhere():
    assert links.internal_problems(book.build(ROOT).parent) == []


class Answers(http.server.BaseHTTPRequestHandler):
    """/CODE answers with that status; /move answers with a redirection to /200."""

    def do_GET(self) -> None:
        code = self.path.strip("/")
        self.send_response(302 if code == "move" else int(code))
        if code == "move":
            self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def address():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("path", ["200", "move", "403"])
def test_an_address_that_answers_passes(address, path):
    assert links.external_problems([f"{address}/{path}"]) == {}


@pytest.mark.parametrize(("path", "says"), [("404", "answers 404"), ("500", "answers 500")])
def test_an_address_that_is_gone_is_named(address, path, says):
    gone = f"{address}/{path}"
    problems = links.external_problems([f"{address}/200", gone])
    assert list(problems) == [gone] and says in problems[gone]


def test_a_machine_that_is_not_there_is_named():
    ((_, problem),) = links.external_problems(["http://127.0.0.1:9/"]).items()
    assert "does not answer" in problem


def test_the_addresses_that_leave_the_site_are_collected_once(tmp_path):
    away = '<a href="https://example.org/x#part"></a><a href="mailto:a@example.org"></a><a href="b.html"></a>'
    found = links.external(site(tmp_path, a=away, b='<a href="https://example.org/x"></a>'))
    assert found == {"https://example.org/x": ["a.html", "b.html"]}
