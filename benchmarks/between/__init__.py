"""The benchmark ``between``."""
