"""What the timings in the documentation were made with."""
