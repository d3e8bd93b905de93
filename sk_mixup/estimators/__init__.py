"""scikit-learn's side: arrays and labels in, predictions out."""
