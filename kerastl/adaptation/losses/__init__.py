"""Losses as plain functions of tensors: no model, no step, no loop."""
