"""Text generation: one file per provider, one verb, `generate`."""
