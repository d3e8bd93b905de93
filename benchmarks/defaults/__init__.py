"""The benchmark ``defaults``."""
