"""The benchmark ``corrupted-tables``."""
