"""Benchmarks of sk_mixup: one folder, one claim; ``python -m benchmarks`` lists them."""
