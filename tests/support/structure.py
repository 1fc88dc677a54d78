"""The structure of the source, computed from it: imports, circles, the order of the wings, sizes.

python tests/support/structure.py [FOLDER]     # prints the counts
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

ORDER = (
    ("version", "errors", "names", "words", "printable", "progress", "plop_registry"),
    ("bar", "files", "hub", "quiet", "processes"),
    ("method",),
    ("texts", "network"),
    ("models", "placement", "opinions"),
    ("scoring", "checking"),
    ("runs",),
    ("comparison", "racing"),
    ("tables", "report"),
    ("library",),
    ("cli",),
    ("__init__", "__main__"),
)
"""Each row may import from the rows above it; wings that share a row do not import each other."""

LONGEST = 60
"""Lines that a function's body may have, its docstring aside."""


@dataclass(frozen=True)
class Import:
    """A module that imports another one, and where."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer.replace('.', '/')}.py:{self.line} imports {self.imported}"


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the product, by name; tests, benchmarks and migrations aside."""
    sources = {root: ("plop_cli", "experiments"), root / "registry": ("plop_registry",)}
    return {
        ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__"): file
        for base, packages in sources.items()
        for package in packages
        for file in sorted((base / package).rglob("*.py"))
        if "versions" not in file.parts
    }


def imports(known: dict[str, Path]) -> list[Import]:
    """Every import of one of the `known` modules by another, in functions and under TYPE_CHECKING too."""
    edges = set()
    for name, file in known.items():
        for node in ast.walk(ast.parse(file.read_text())):
            for imported in _imported(node, known):
                if imported != name:
                    edges.add(Import(name, imported, node.lineno))
    return sorted(edges, key=lambda edge: (edge.importer, edge.line, edge.imported))


def _imported(node: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)
    elif isinstance(node, ast.ImportFrom) and node.module:
        inside = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in inside if name in known)
        if node.module in known and any(name not in known for name in inside):
            yield node.module


def circles(edges: list[Import]) -> list[list[Import]]:
    """Groups of modules that reach each other, as the imports between them (Tarjan's strong components)."""
    follow: dict[str, list[str]] = {}
    for edge in edges:
        follow.setdefault(edge.importer, []).append(edge.imported)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in follow.get(name, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = set(stack[stack.index(name) :])
            del stack[stack.index(name) :]
            if len(group) > 1:
                groups.append(group)

    for name in list(follow):
        if name not in index:
            visit(name)
    return [[edge for edge in edges if {edge.importer, edge.imported} <= group] for group in groups]


def against_the_order(edges: list[Import]) -> list[Import]:
    """Imports of a wing that stands beside or above the importer's own."""
    level = {wing: number for number, row in enumerate(ORDER) for wing in row}
    wrong = []
    for edge in edges:
        own, other = wing_of(edge.importer), wing_of(edge.imported)
        if own in level and other in level and own != other and level[own] <= level[other]:
            wrong.append(edge)
        if other == "experiments" and own != "experiments":
            wrong.append(edge)
    return wrong


def wing_of(module: str) -> str:
    """plop_cli.scoring.score → scoring; plop_registry and experiments are wings of their own."""
    package, _, rest = module.partition(".")
    return (rest.partition(".")[0] or "__init__") if package == "plop_cli" else package


def functions(known: dict[str, Path]) -> Iterator[tuple[int, str, int]]:
    """The length of every function's body without its docstring, its module and its first line."""
    for name, file in known.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
                if body:
                    yield body[-1].end_lineno - body[0].lineno + 1, f"{name}.{node.name}", node.lineno


def depth(edges: list[Import]) -> int:
    """Levels of imports: the longest way from a module to one that imports nothing."""
    follow: dict[str, list[str]] = {}
    for edge in edges:
        follow.setdefault(edge.importer, []).append(edge.imported)
    known: dict[str, int] = {}

    def below(name: str, path: tuple[str, ...] = ()) -> int:
        if name in path:
            return 0
        if name not in known:
            known[name] = 1 + max((below(other, (*path, name)) for other in follow.get(name, ())), default=0)
        return known[name]

    return max(map(below, follow), default=0)


def main() -> None:
    """Print the counts."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    known = modules(root)
    edges = [edge for edge in imports(known) if wing_of(edge.importer) != "experiments"]
    lengths = {name: len(file.read_text().splitlines()) for name, file in known.items()}
    longest = max(lengths, key=lengths.__getitem__)
    function = max(functions(known))
    print(f"modules             {len(known)}, of these {sum(n.startswith('plop_cli') for n in known)} in plop_cli")
    print(
        f"on one floor        {sum(n.startswith('plop_cli.') and n.count('.') == 1 for n in known)} in plop_cli itself"
    )
    print(f"longest module      {longest}, {lengths[longest]} lines")
    print(f"longest function    {function[1]}, {function[0]} lines without docstring")
    print(f"imports             {len(edges)}, {depth(edges)} levels")
    print(f"circles             {len(circles(edges))}")
    print(f"against the order   {len(against_the_order(edges))}")


if __name__ == "__main__":
    main()
