"""Stored runs: how they are made, found, told apart and carried."""
