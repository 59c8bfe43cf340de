"""The configuration of a run: typed sections, YAML files, and overrides on the command line.

`load_config` reads a file; `Config()` holds the defaults. The sections are in `schema` and
`ablation`.
"""
