"""The architectures that `load_backbone` knows, one file a family."""
