"""Specs → pictures: the one palette, the one look, and the Vega runtime that a page carries.

svg(spec)                      # for the page: colours are CSS variables, so it follows light, dark and print
picture(spec, "png", "NFN")    # for papers and slides: on white, with title and legend
"""

from __future__ import annotations

import re
from typing import Any

import vl_convert

from plop_cli.printable import for_xml

Spec = dict[str, Any]

VEGA_LITE = "6.4"

PALETTE = {
    "page": ("#ffffff", "#15181c"),
    "panel": ("#f5f7f9", "#1e2329"),
    "ink": ("#1b2127", "#e7eaee"),
    "muted": ("#56616c", "#a5afba"),
    "line": ("#d9dfe5", "#363e47"),
    "chosen": ("#1d5fa8", "#7db4f0"),
    "on-chosen": ("#ffffff", "#10151b"),
    "rest": ("#8a95a0", "#66717c"),
    # NFN below 1 is blue, above it orange, as deep as it is far: the two are told apart by every common colour vision.
    "d0": ("#1c4a86", "#8cc0f7"),
    "d1": ("#3a70b0", "#5f9bdc"),
    "d2": ("#6c9bcc", "#3b6aa0"),
    "d3": ("#a3c2e0", "#33597f"),
    "d4": ("#d2e0ee", "#2b4055"),
    "d5": ("#f3f3f1", "#2c3035"),
    "d6": ("#f9e0c8", "#4a3b2c"),
    "d7": ("#f1be8b", "#6d5030"),
    "d8": ("#df9550", "#865c2a"),
    "d9": ("#b05f18", "#c58d43"),
    "d10": ("#8a460d", "#f4b862"),
    "strong": ("#ffffff", "#11151a"),  # digits on the deep steps
    # Series: Okabe and Ito's colours, dark enough for a white ground and light enough for a dark one.
    "s0": ("#0067a5", "#5cb0ea"),
    "s1": ("#c8500a", "#f5935a"),
    "s2": ("#00835f", "#35c79d"),
    "s3": ("#a5508a", "#df97c5"),
    "s4": ("#8a6d00", "#dfc14a"),
    "s5": ("#4f5b66", "#aab6c2"),
    "s6": ("#2286a8", "#86d7ee"),
    "s7": ("#74432a", "#cfa081"),
}
"""Every colour, for a light ground and for a dark one."""
HOVER = "hover"
"""The name of a layer of points that nobody sees: they carry tooltips, and a still picture does without them."""
_ON_WHITE = {f"var(--{name})": light for name, (light, _) in PALETTE.items()}


def var(name: str) -> str:
    """A colour of the palette, as the page's stylesheet defines it."""
    return f"var(--{name})"


def _config(font: str) -> Spec:
    quiet = {"labelColor": var("muted"), "titleColor": var("muted"), "titleFontWeight": "normal"}
    return {
        "aria": False,  # the figure's own label and table say what a few hundred marks cannot
        "background": "transparent",
        "font": font,
        "view": {"stroke": None},
        "axis": {
            **quiet,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "domain": False,
            "ticks": False,
            "labelPadding": 6,
            "gridColor": var("line"),
        },
        "legend": {"disable": True},
        "title": {"color": var("ink"), "anchor": "start", "fontSize": 14, "offset": 12},
        "text": {"color": var("ink"), "fontSize": 11},
    }


PAGE_CONFIG = _config("system-ui, sans-serif")
_PAPER_CONFIG = _config("sans-serif") | {
    "padding": 12,
    "legend": {
        "orient": "bottom",
        "title": None,
        "labelColor": var("muted"),
        "labelFontSize": 12,
        "labelLimit": 0,
        "symbolType": "square",
    },
}


def runtime() -> str:
    """Vega, Vega-Lite and vegaEmbed as one script, for one page."""
    return vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # type: ignore[call-arg] # its stub wants a snippet


def svg(spec: Spec) -> str:
    """The chart as the page shows it where no script runs."""
    drawn: str = vl_convert.vegalite_to_svg(for_xml(spec), vl_version=VEGA_LITE, config=PAGE_CONFIG)
    drawn = re.sub(rf'<g class="mark-symbol role-mark {HOVER}_marks".*?</g>', "", drawn)
    return re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), drawn)  # 0.01 pixels are enough


def picture(spec: Spec, form: str, title: str) -> bytes:
    """The chart as a file: svg, png or pdf, on white, with its title and legend."""
    plain = _on_white({**for_xml(spec), "title": for_xml(title), "config": _PAPER_CONFIG, "background": "white"})
    if form == "svg":
        return str(vl_convert.vegalite_to_svg(plain, vl_version=VEGA_LITE)).encode()
    if form == "png":
        return bytes(vl_convert.vegalite_to_png(plain, vl_version=VEGA_LITE, scale=2))
    return bytes(vl_convert.vegalite_to_pdf(plain, vl_version=VEGA_LITE))


def _on_white(value: Any) -> Any:
    """Colours in place of CSS variables, outside of the data."""
    if isinstance(value, dict):
        return {key: part if key == "data" else _on_white(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_on_white(part) for part in value]
    return _ON_WHITE.get(value, value) if isinstance(value, str) else value
