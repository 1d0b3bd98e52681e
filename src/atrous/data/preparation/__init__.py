"""Preparing a data set: from what can be downloaded to what a training reads; it can be stopped at any moment."""
