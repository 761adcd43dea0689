"""Augmentation operations, one per file, found by file name."""
