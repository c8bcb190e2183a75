"""Runnable comparisons; `python -m benchmarks [NAME ...]` runs all or some of them."""
