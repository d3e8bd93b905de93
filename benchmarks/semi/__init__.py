"""The benchmark ``semi``."""
