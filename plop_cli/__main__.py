"""`python -m plop_cli`, the same as `plop`."""

from plop_cli.cli import main

main()
