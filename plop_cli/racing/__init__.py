"""Placements trained briefly on the same examples, until it is known which is better, or that it cannot be told."""
