"""From the PixelData of one frame to its Hounsfield units.

`native` and `decode` give the pixel cells of a frame as they are stored, `rle` and `sitk_process`
those of compressed frames, `stored` the stored values in them, `wrapping` mends signed values that
were written as unsigned ones, `rescale` turns stored values into HU, and `plausibility` tells
whether these can be HU.
"""
