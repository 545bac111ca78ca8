"""vmlab: a terminal lab manager for virtual machines."""

__version__ = "0.1.0"
