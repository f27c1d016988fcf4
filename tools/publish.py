"""Sphinx extension: what others see of the site: its address, cards of links, sitemap, citation, launch buttons.

One address in `_config.yml` (`repository: url`) switches on what needs one: the buttons of the repository, Colab and
Binder, and the site's own address, which is that of GitHub Pages unless `html: baseurl` names another.
"""

import re
from html import escape
from pathlib import Path
from urllib.parse import quote, urlsplit

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

from tools import contents
from tools.notebooks import ToolError, write_atomic

CITATION = Path("CITATION.cff")
CARD = "_static/hero.png"
BUTTONS = ("use_repository_button", "use_issues_button", "use_edit_page_button")
COLAB, BINDER = "https://colab.research.google.com", "https://mybinder.org"
LONGEST = 200  # characters of a description


def repository(config: Config) -> tuple[str, str]:
    """The configured address of the repository ('' when there is none) and its branch."""
    options = config.html_theme_options
    return (options.get("repository_url") or "").rstrip("/"), options.get("repository_branch") or "main"


def owner_and_name(url: str) -> tuple[str, str] | None:
    """Owner and name of a repository on GitHub, or None for another address."""
    at = urlsplit(url.removesuffix(".git"))
    names = at.path.strip("/").split("/")
    return (names[0], names[1]) if at.hostname == "github.com" and len(names) == 2 else None


def pages_address(url: str) -> str:
    """Where GitHub Pages shows the site of this repository; '' for another host."""
    found = owner_and_name(url)
    return f"https://{found[0].lower()}.github.io/{found[1]}/" if found else ""


def launch_links(url: str, branch: str, path: str) -> list[tuple[str, str]]:
    """Where the notebook at `path` of the repository opens in a browser: (name, address)."""
    if not (found := owner_and_name(url)):
        return []
    here = "/".join(found)
    return [
        ("Colab", f"{COLAB}/github/{here}/blob/{branch}/{path}"),
        ("Binder", f"{BINDER}/v2/gh/{here}/{branch}?urlpath=lab/tree/{quote(path)}"),
    ]


def address(config: Config) -> str:
    """The address of the site with a slash at its end, or ''."""
    return f"{config.html_baseurl.rstrip('/')}/" if config.html_baseurl else ""


def switch_on(app: Sphinx, config: Config) -> None:
    """Set everything that follows from the address of the repository; nothing without one."""
    url, _ = repository(config)
    if url:
        config.html_theme_options |= dict.fromkeys(BUTTONS, True)
        if owner_and_name(url):
            launch = {"colab_url": COLAB, "binderhub_url": BINDER, "notebook_interface": "jupyterlab"}
            config.html_theme_options["launch_buttons"] = launch
        config.html_baseurl = config.html_baseurl or pages_address(url)


def first_sentence(doctree: nodes.document) -> str:
    """The first sentence of the first paragraph of the text without a formula, cut at a word when it is long."""
    for paragraph in doctree.findall(nodes.paragraph):
        if isinstance(paragraph.parent, nodes.section | nodes.container) and not list(paragraph.findall(nodes.math)):
            text = " ".join(paragraph.astext().split())
            sentence = re.match(r".+?[.!?](?=\s[A-Z]|$)|.+", text)
            return shorten(sentence[0] if sentence else text)
    return ""


def shorten(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " …"


def metatags(title: str, description: str, site: str, page: str) -> str:
    """The description of a page and its card where a link to it is shared; the addresses only when there is one."""
    named = {"description": description, "twitter:card": "summary_large_image" if site else "summary"}
    shared = {"og:type": "website", "og:title": title, "og:description": description}
    if site:
        shared |= {"og:url": f"{site}{page}", "og:image": f"{site}{CARD}"}
    lines = [f'<meta name="{key}" content="{escape(value)}">' for key, value in named.items() if value]
    return "\n".join(lines + [f'<meta property="{k}" content="{escape(v)}">' for k, v in shared.items() if v])


def add_metatags(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    if doctree is None:
        return
    shows = next((e.shows for e in contents.entries(Path(app.srcdir)) if e.docname == pagename), "")
    title = re.sub(r"<[^>]*>", "", context.get("title", ""))
    page = app.builder.get_target_uri(pagename)
    tags = metatags(title, shows or first_sentence(doctree), address(app.config), page)
    context["metatags"] = f"{context.get('metatags', '')}\n{tags}\n"


def sitemap(site: str, pages: list[str]) -> str:
    """All pages of the site for search engines."""
    urls = "".join(f"<url><loc>{escape(site + page)}</loc></url>\n" for page in pages)
    head = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    return f"{head}{urls}</urlset>\n"


def write_sitemap(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.name == "html" and (site := address(app.config)):
        pages = [app.builder.get_target_uri(name) for name in sorted(app.env.all_docs)]
        write_atomic(Path(app.outdir, "sitemap.xml"), sitemap(site, pages))


def citation(root: Path) -> dict:
    """CITATION.cff, checked for what the cite box needs."""
    if not (root / CITATION).is_file():
        raise ToolError(f"{CITATION}: does not exist, and the cite box is made from it")
    found = yaml.safe_load((root / CITATION).read_text(encoding="utf-8"))
    if missing := {"title", "authors", "version", "date-released", "license"} - set(found):
        raise ToolError(f"{CITATION}: lacks {', '.join(sorted(missing))}")
    return found


def bibtex(found: dict, site: str) -> str:
    """The entry of the book for a LaTeX bibliography."""
    people = [a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in found["authors"]]
    year = str(found["date-released"])[:4]
    fields = {
        "title": f"{{{found['title']}}}",
        "author": " and ".join(f"{{{p}}}" for p in people),
        "year": year,
        "version": found["version"],
        "license": found["license"],
    } | ({"url": site} if site else {})
    body = ",\n".join(f"  {key:<8}= {{{value}}}" for key, value in fields.items())
    return f"@software{{{found['title'].split()[0].lower()}{year},\n{body}\n}}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", switch_on)
    app.connect("html-page-context", add_metatags)
    app.connect("build-finished", write_sitemap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
