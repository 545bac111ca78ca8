"""SSH: waiting for a guest, running things in it, files in and out, terminals."""
