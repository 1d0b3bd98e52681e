"""Loading: which sample is drawn when, and how often."""
