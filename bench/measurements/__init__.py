"""One file a measurement, each with `measure(run)`, which starts what it needs, adds its rows, and leaves nothing."""
