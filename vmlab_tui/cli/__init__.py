"""The headless twin of the terminal user interface."""
