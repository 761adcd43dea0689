"""Layers that stand in for those of keras-cv 0.9.0 that are wrong, work per image or do not compile."""
