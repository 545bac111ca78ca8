"""The run journal: event schema, append, read, fold."""
