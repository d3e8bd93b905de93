"""The benchmark ``search``."""
