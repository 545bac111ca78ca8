"""Check kinds and results, run against a `Target`."""
