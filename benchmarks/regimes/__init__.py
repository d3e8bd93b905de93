"""The benchmark ``regimes``."""
