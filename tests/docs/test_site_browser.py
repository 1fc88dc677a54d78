"""The documentation site in a real browser: light and dark, on a desk and on a telephone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = Path("/usr/bin/chromium")
PAGES = ("index", "tutorials/first-adapter", "how-to/race", "reference/commands", "reference/python", "evidence")


def missing(what: str) -> None:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@pytest.mark.slow
def test_everybody_can_read_the_site(tmp_path: Path) -> None:
    """No serious violation of what axe-core checks, and nothing is wider than the window or comes from the network."""
    try:
        from axe_playwright_python.sync_playwright import Axe
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        missing("neither Playwright nor axe-core here (the group dev has them)")
    if not CHROMIUM.exists():
        missing("no Chromium here (apt-get install chromium)")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path]
    subprocess.run(build, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=True)
    found, asked = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            opened = browser.new_context(color_scheme=scheme).new_page()  # type: ignore[arg-type]
            opened.on("request", lambda request: asked.append(request.url))
            for width in (1280, 390):
                opened.set_viewport_size({"width": width, "height": 900})
                for page in PAGES:
                    opened.goto((tmp_path / f"{page}.html").as_uri())
                    where = (page, scheme, width)
                    if opened.evaluate("document.documentElement.scrollWidth") > width:
                        found.append((*where, "is wider than the window"))
                    violations = Axe().run(opened).response["violations"]
                    found += [(*where, each["id"]) for each in violations if each["impact"] in ("serious", "critical")]
        browser.close()
    assert found == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
