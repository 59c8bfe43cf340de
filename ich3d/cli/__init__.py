"""The `ich3d` command.

`parser` reads the arguments, `commands` runs one command, `terminal` prints; `demo` and `doctor`
are commands that belong to no other package.
"""
