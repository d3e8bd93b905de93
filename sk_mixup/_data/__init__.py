"""Rows, and batches that follow a plan."""
