"""The command line, a module for each command: parse, call, print."""
