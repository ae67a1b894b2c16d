"""The mathematics of the paper: pure functions, no I/O, no threads, no clock."""
