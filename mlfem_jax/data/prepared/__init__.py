"""A release made into a prepared data set, and drawn."""
