"""The benchmark ``tabular``."""
