"""What mkdocs asks while it builds the site: pages from outside of docs/, patterns in the nav, what is generated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

import generated

ROOT = Path(__file__).parents[1]
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages of the repository's root, and what they are in the site."""

LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)\s#]+)")


def on_config(config: Any) -> Any:
    """Put pages in place of the nav's patterns."""
    folder = Path(config.docs_dir)
    pages = {str(page.relative_to(folder)) for kind in ("md", "ipynb") for page in folder.rglob(f"*.{kind}")}
    config.nav = list(_expanded(config.nav, pages - {*_named(config.nav)}))
    return config


def _named(nav: Any) -> Iterator[str]:
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from _named(entry)


def _expanded(nav: list[Any], free: set[str]) -> Iterator[Any]:
    for entry in nav:
        if isinstance(entry, dict):
            ((title, inside),) = entry.items()
            if isinstance(inside, str):
                yield entry
            elif some := [*_expanded(inside, free)]:
                yield {title: some}
        elif "*" in entry:
            yield from sorted(page for page in free if Path(page).parent == Path(entry).parent)
        elif entry in OUTSIDE.values() or (ROOT / "docs" / entry).exists():
            yield entry


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the repository's root."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links from and to the root's pages lead to what they are here, and write what is generated."""
    uri = page.file.src_uri
    source = next((outside for outside, inside in OUTSIDE.items() if inside == uri), f"docs/{uri}")

    def here(link: re.Match[str]) -> str:
        target = (ROOT / source).parent.joinpath(link[0]).resolve()
        if not target.is_relative_to(ROOT):
            return link[0]
        path = str(target.relative_to(ROOT))
        inside = OUTSIDE.get(path, path.removeprefix("docs/"))
        return "../" * uri.count("/") + inside

    return generated.filled(LINK.sub(here, markdown))
