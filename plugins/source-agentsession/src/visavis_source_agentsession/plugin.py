"""What the entry point names: the records, without the engine."""
