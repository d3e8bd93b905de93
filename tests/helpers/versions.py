"""What older versions of libraries cannot do."""

import pytest
import sklearn

FOUND = tuple(int(part) for part in sklearn.__version__.split(".")[:2])


def since_sklearn(*version: int) -> pytest.MarkDecorator:
    """Skip a test by name where scikit-learn is older."""
    return pytest.mark.skipif(
        version > FOUND, reason=f"needs scikit-learn {'.'.join(map(str, version))} or later"
    )
