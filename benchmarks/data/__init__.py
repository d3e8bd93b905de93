"""Reading and downloading files of data; no training."""
