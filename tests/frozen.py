"""What was imported before this stays out of garbage collections, which would copy it in forks."""

import gc

gc.collect()
gc.freeze()
