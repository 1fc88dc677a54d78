"""Second opinions: where other methods would put adapters, beside PLoP."""
