"""Profiles, recipes and configuration as models; errors with file:line."""
