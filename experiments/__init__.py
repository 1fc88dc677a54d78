"""The paper's claims, one program each: python -m experiments.NAME [--quick]

A program has `run(...) -> dict`, plain JSON; `tell(results) -> str`, its section of docs/evidence.md; and
`draw(results)`, its figures by name.
"""
