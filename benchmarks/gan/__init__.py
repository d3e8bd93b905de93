"""The benchmark ``gan``."""
