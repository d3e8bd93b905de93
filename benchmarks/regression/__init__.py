"""The benchmark ``regression``."""
