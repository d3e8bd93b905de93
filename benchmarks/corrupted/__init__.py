"""The benchmark ``corrupted``."""
