"""Logs as the screen reads them: where lines come from, made safe, read in a thread, searched."""
