"""Specs → pictures: the one look, and the Vega runtime that a page carries.

svg(spec)                      # for the page: colours are CSS variables, so it follows light, dark and print
picture(spec, "png", "NFN")    # for papers and slides: on white, with title and legend
"""

from __future__ import annotations

import re
from typing import Any

import altair as alt
import vl_convert

from plop_cli.printable import for_xml
from plop_cli.report.palette import PALETTE

Spec = dict[str, Any]

VEGA_LITE = "6.4"

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
    plain = _for_paper(spec, title)
    if form == "svg":
        return str(vl_convert.vegalite_to_svg(plain, vl_version=VEGA_LITE)).encode()
    if form == "png":
        return bytes(vl_convert.vegalite_to_png(plain, vl_version=VEGA_LITE, scale=2))
    return bytes(vl_convert.vegalite_to_pdf(plain, vl_version=VEGA_LITE))


def chart(spec: Spec, title: str) -> alt.TopLevelMixin:
    """The chart as Altair knows it, on white, for a notebook of whatever theme."""
    drawn: alt.TopLevelMixin = alt.Chart.from_dict(_for_paper(spec, title))
    return drawn


def _for_paper(spec: Spec, title: str) -> Spec:
    paper: Spec = _on_white({**for_xml(spec), "title": for_xml(title), "config": _PAPER_CONFIG, "background": "white"})
    return paper


def _on_white(value: Any) -> Any:
    """Colours in place of CSS variables, outside of the data."""
    if isinstance(value, dict):
        return {key: part if key == "data" else _on_white(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_on_white(part) for part in value]
    return _ON_WHITE.get(value, value) if isinstance(value, str) else value
