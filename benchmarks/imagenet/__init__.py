"""The benchmark ``imagenet``."""
