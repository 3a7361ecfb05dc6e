"""The checks of stage=doctor: each is one function from the `Site` to a `Finding`."""
