"""True scores: a process pool, a cache, and tables of one row an utterance."""
