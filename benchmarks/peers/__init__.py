"""Rows per second of generation alone, beside distilabel and Bespoke Curator: `python -m benchmarks.peers`."""
