"""The benchmark ``toy``."""
