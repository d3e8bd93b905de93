"""Categorical columns in front of a mixed net: one-hot, or the mean target, never the bare code.

mixup draws points between rows. Between two one-hot vectors lies a share of each category, which is
what the mixed target says too. Between the codes 0 and 2 lies the code 1, which is another category:
do not mix ordinal codes of categories that have no order.

Run ``pip install palmerpenguins`` and ``python examples/categories.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder

from sk_mixup import MixupClassifier, MixupRegressor


def make_model(
    net: MixupClassifier | MixupRegressor,
    numbers: Sequence[str] = (),
    nominal: Sequence[str] = (),
    many_valued: Sequence[str] = (),
) -> Pipeline:
    """Return a pipeline that brings the columns of a table to a scale on which they can be mixed.

    Parameters
    ----------
    net : MixupClassifier or MixupRegressor
        The last step.
    numbers : sequence of str
        Columns of numbers; missing ones are replaced by the median.
    nominal : sequence of str
        Columns of a few categories each: one-hot, a category that is missing or new all zeros.
    many_valued : sequence of str
        Columns of so many categories that one-hot would be wide, such as postcodes: the
        mean target of each category, found by cross-fitting.
    """
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), list(numbers)),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(nominal)),
        (make_pipeline(TargetEncoder(), StandardScaler()), list(many_valued)),
    )
    return make_pipeline(columns, net)


def main() -> None:
    """Predict the sex of penguins from their measures, species and island."""
    from palmerpenguins import load_penguins
    from sklearn.model_selection import cross_validate

    table = load_penguins().dropna(subset=["sex"])
    numbers = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    for alpha in (0, 0.2):
        net = MixupClassifier(alpha=alpha, random_state=0)
        model = make_model(net, numbers, ["species", "island"], ["year"])
        scores = cross_validate(model, table, table["sex"], cv=5, scoring=["accuracy", "neg_log_loss"])
        accuracy, loss = scores["test_accuracy"].mean(), -scores["test_neg_log_loss"].mean()
        print(f"alpha={alpha}: accuracy {accuracy:.3f}, log loss {loss:.3f}")


if __name__ == "__main__":
    main()
