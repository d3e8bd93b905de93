"""All knowledge of skorch below the estimators."""
