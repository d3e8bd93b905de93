"""The benchmark ``ablation``."""
