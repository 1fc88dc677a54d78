"""Draw docs/report.png, README's picture of a report: what `make demo` leaves behind, down to the first NFN-maps.

    make demo && .venv/bin/python docs/report_picture.py [REGISTRY]

Needs Chromium (apt-get install chromium).
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import sync_playwright

from plop_cli.report.page import render_html
from plop_cli.report.story import tell
from plop_registry import Registry

ROOT = Path(__file__).parent.parent

with Registry(sys.argv[1] if sys.argv[1:] else ROOT / "demo" / "registry.db") as registry:
    story = tell(registry.runs(model="demo")[::-1], registry)
html = render_html(story, written=datetime.now(UTC), command="plop report", theme="light")
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
    page = browser.new_page(viewport={"width": 1200, "height": 3000})
    page.set_content(html)
    page.locator("#maps .live").last.wait_for()
    end = page.locator("#maps .live").first.bounding_box()
    size = {"x": 0, "y": 0, "width": 1200, "height": end["y"] + end["height"]}
    page.screenshot(path=ROOT / "docs" / "report.png", clip=size)
    browser.close()
