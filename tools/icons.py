"""The icons that the site uses, as a small font inside the theme's style sheet.

The theme brings all of Font Awesome Free to every page: a script of 1.5 MB, a font and two thousand rules. What is
left here are the used rules and characters (icons CC BY 4.0, font SIL OFL 1.1: a subset may not carry its name).
"""

import re
from pathlib import Path

from tools import fonts

# a rule that only says which character an icon is: .fa-search:before{content:"\f002"}
RULE = re.compile(r'((?:\.fa-[a-z0-9-]+:before,?)+)\{content:"[^"]*"\}')
CODE = re.compile(r'"\\([0-9a-f]{2,5})"')
FONT_FACE = re.compile(r"(@font-face\{[^}]*src:)url\([^)]*fa-solid-900\.woff2\)[^}]*(?=\})")
NAME = "BookIcons"


def names(page: str) -> set[str]:
    """The icons of a page: class="fa-solid fa-bars" names fa-solid and fa-bars."""
    return set(re.findall(r"\bfa-[a-z0-9-]+", " ".join(re.findall(r'class="([^"]*)"', page))))


def trim(sheet: str, font: Path, used: set[str]) -> str:
    """The theme's style sheet with the rules and the characters of the `used` icons only."""

    def keep(rule: re.Match[str]) -> str:
        return rule[0] if used & set(re.findall(r"fa-[a-z0-9-]+", rule[1])) else ""

    sheet = RULE.sub(keep, sheet)
    cut = fonts.cut(font, {int(code, 16) for code in CODE.findall(sheet)}, NAME)
    return FONT_FACE.sub(rf"\1{fonts.url(cut)}", sheet)
