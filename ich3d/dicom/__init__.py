"""From DICOM files to ordered CT series and volumes in Hounsfield units, and back to DICOM.

The path of a file:

1. `files` lists what lies below a path, also inside zips.
2. `headers.read.read_file` gives one `SliceHeader` for each slice of a file, or says why not.
3. `assembly` groups the headers by series, orders them along the slice normal and checks the gaps.
   `index.index` does steps 1 to 3 and accounts for every file.
4. `volume.load_volume` decodes the pixels (`pixels`) into HU int16 (Z, Y, X); `validate` does so
   for a whole index, to find what headers do not show.
5. `write.write_series` writes a volume as DICOM files.

Examples:

    from ich3d.core.types import Volume
    from ich3d.dicom.index import index
    from ich3d.dicom.volume import load_volume

    for series in index("study").series:
        volume = load_volume(series)
        if isinstance(volume, Volume):
            print(series.volume_id, volume.hu.shape, series.spacing_mm)
        else:
            print(series.volume_id, volume.detail)
"""
