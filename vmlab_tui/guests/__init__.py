"""SSH: waiting, executing, files, step units."""
