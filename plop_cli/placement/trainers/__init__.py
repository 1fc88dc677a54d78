"""A module for each trainer: it writes a placement in that trainer's words."""
