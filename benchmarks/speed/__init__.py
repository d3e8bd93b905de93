"""The benchmark ``speed``."""
