"""make bench-gpu: what only a GPU can tell, in minutes and in the order of its value."""
