"""`python -m plop_cli`, the same as `plop`."""

from plop_cli.cli.app import main

main()
