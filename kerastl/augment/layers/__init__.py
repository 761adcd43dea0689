"""Replacements for layers of keras-cv 0.9.0 that are faulty, process single images, or do not compile."""
