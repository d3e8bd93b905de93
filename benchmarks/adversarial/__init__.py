"""The benchmark ``adversarial``."""
