"""Which model: how it is found, what pins it, and how its weights are loaded."""
