"""The benchmark ``cifar``."""
