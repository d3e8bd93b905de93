"""What every benchmark runs on; knows no experiment and no data."""
