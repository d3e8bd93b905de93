"""The benchmark ``speech``."""
