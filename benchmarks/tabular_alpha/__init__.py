"""The benchmark ``tabular-alpha``."""
