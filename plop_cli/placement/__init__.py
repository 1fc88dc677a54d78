"""From scores to adapters: which modules, at which rank, in which trainer's words."""
