"""From slice headers to ordered series.

A `Series` is the sorted headers of one volume. A SeriesInstanceUID usually holds one volume, but
may hold several; then each of them is a `Series` of its own.

`grouping.group_files` is the entry point. It collects the slices of each SeriesInstanceUID, which
`splitting` divides into volumes: first by geometry, then `stacks` by sweep. `ordering` sorts each
volume along its normal. `orphans` names slices that seem to have lost their SeriesInstanceUID.
"""
