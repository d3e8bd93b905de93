"""The benchmark ``uci``."""
