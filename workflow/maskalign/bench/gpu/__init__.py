"""make bench-gpu: speed and correctness of a GPU, the most telling pieces first."""
