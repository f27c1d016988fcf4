"""The browser that prints the book, draws the card of the home page, and shows the site to the tests."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """The path of Chromium, or None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)
