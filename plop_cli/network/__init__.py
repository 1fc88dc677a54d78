"""A model in memory: what it is made of, how it runs, how it is watched."""
