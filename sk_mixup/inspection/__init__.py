"""Looking inside a fitted classifier: what it does between examples, under attack, and with wrong labels."""
