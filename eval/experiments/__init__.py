"""What the results in the documentation were made with."""
