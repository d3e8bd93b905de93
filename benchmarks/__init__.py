"""Benchmarks of sk_mixup: one file, one claim; ``python -m benchmarks`` lists them."""
