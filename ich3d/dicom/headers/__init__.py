"""From the bytes of a file to the checked header of each of its slices.

`read.read_file` is the entry point. It recognizes the format by the first bytes (`file_format`),
reads the elements without pydicom where the file is an ordinary one (`fast_parser`, which uses
`element_scanner`) and with pydicom otherwise (`pydicom_parser`). Both give the same `Elements`,
which `slice_header` turns into a `SliceHeader`. `pixel_length` makes sure that PixelData is whole.
"""
