"""What a notebook shows of a value: a small table, and charts to ask for. Whoever can draw says so here (`drawn_by`).

`import plop_cli` does; without it a value is shown as text, since the registry draws nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from plop_registry.errors import RegistryError

if TYPE_CHECKING:
    import altair as alt


class Painter(Protocol):
    """Draws the values that it knows."""

    def html(self, value: object, /) -> str:
        """The value as an HTML table of its own: escaped, and without script or network."""

    def chart(self, value: object, /) -> alt.TopLevelMixin:
        """Its numbers as an Altair chart."""

    def map(self, value: object, /) -> alt.TopLevelMixin:
        """Its parts against module types, as an Altair chart."""


_painters: list[Callable[[], Painter]] = []


def drawn_by(painter: Callable[[], Painter]) -> None:
    """From now on values are drawn by what `painter` returns; it is called when one is to be drawn."""
    _painters[:] = [painter]


class Shown:
    """A value that a notebook can show."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        return _painters[0]().html(self) if _painters else None

    def chart(self) -> alt.TopLevelMixin:
        """The numbers of the value as an Altair chart: bars of NFN, or the learning curves of a race.

        Altair shows it in a notebook, and `.save("chart.svg")` (.png, .html, .json) writes it, without the network.
        Raises RegistryError where `plop_cli` is not imported, PlopError where there is nothing to draw.
        """
        return _drawing().chart(self)

    def map(self) -> alt.TopLevelMixin:
        """Layers, runs or contestants down, module types across, as an Altair chart. It raises what `chart` raises."""
        return _drawing().map(self)


def _drawing() -> Painter:
    if not _painters:
        raise RegistryError("charts are drawn by plop_cli; import plop_cli first")
    return _painters[0]()
