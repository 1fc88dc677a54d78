"""Does a trainer's config adapt what its author thinks? Configs are read, never run."""
