"""A model before and after training: what changed, what it gives away, and how sure that is."""
