"""What the benchmarks compare with: loops written by hand and other libraries."""
