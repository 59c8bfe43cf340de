"""Volumes to the store that models read: head crop, patient groups, folds."""
