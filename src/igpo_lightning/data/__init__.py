"""Problems in, token batches out: sources, prompts, collation and the embedded task."""
