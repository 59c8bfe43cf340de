"""Words and tools that every other room shares. Nothing here imports torch, pydicom or SimpleITK."""
