"""Backbone families, one per file, found by file name."""
