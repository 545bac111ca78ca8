"""Leases, VM directories, the port registry, the inventory."""
