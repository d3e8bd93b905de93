"""The limits that the package and the benchmarks are built within."""

import pytest

from tests import house

HELD = [name for name in house.LIMITS if name.startswith(("import", "our classes", "Any"))]


@pytest.fixture(scope="module")
def figures() -> dict[str, int]:
    return house.measure(house.HERE)


@pytest.mark.slow
@pytest.mark.parametrize("name", HELD)
def test_figure_is_within_its_limit(figures: dict[str, int], name: str) -> None:
    assert figures[name] <= house.LIMITS[name]
