"""The releases, one file a data set."""
