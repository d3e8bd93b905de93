"""The command ``python -m sk_mixup compare``: whether mixup helps on a table in a file."""
