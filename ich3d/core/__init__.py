"""Labels, types, errors and small tools that every other package uses.

Nothing in `core` imports torch, pydicom or SimpleITK.
"""
