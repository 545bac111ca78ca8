"""Plans, the engine, the worker process, reports."""
