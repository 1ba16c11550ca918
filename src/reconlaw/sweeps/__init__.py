"""Many cells of one experiment, on many workers, in a store that survives them."""
