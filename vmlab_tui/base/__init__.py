"""Errors, one subprocess runner, deadlines, paths, text cleaning, units."""
