"""A headless Chromium for the tests of the page: whichever one this machine has."""

import contextlib
import os
import shutil

import pytest

VARIABLE = "REALM_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")


@contextlib.contextmanager
def launch():
    """Yields playwright's `Browser`; skips the test, and says what is missing, where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright: make test-browser")
    with api.sync_playwright() as playwright:
        path = executable(playwright.chromium.executable_path)
        if path is None:
            pytest.skip(f"no browser: set {VARIABLE} to a Chromium, or run python -m playwright install chromium")
        # --no-sandbox, playwright's default: containers run as root.
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def executable(installed):
    """Path of a browser: what the variable names, what is on the PATH, what playwright has `installed`; or None."""
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or (installed if os.path.exists(installed) else None)
