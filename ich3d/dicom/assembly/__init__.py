"""From slice headers to ordered series.

The type `Series` holds the sorted headers of one volume. The words "DICOM series" mean all slices
of one SeriesInstanceUID: usually one volume, sometimes several, each of which is a `Series`.

What is not used has one of four names:

- an invalid slice (`InvalidSlice`) cannot be used; it rejects its DICOM series or is dropped,
- a rejected file or DICOM series (`Rejected`) should have been a volume and cannot be used,
- a dropped slice (`DroppedSlice`) is missing from a series that is used without it,
- a file that is left out (`LeftOut`) is no part of a volume, is a copy, or holds dropped slices.

`grouping.group_files` is the entry point. It collects the slices of each SeriesInstanceUID, which
`splitting` divides into volumes: first by geometry, then `stacks` by sweep. `ordering` sorts each
volume along its normal. `orphans` names slices that seem to have lost their SeriesInstanceUID.
"""
