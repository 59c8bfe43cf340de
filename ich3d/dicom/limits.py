"""How large a file may claim to be, or unpack to, before it is refused as a bomb.

Every bound is on one file, never on a total: a zip of 750,000 members passes, and so does an
Enhanced CT file of 2,000 frames, which is read frame by frame.
"""

from typing import BinaryIO, Final

MAX_PIXELS: Final = 4096 * 4096
"""Rows times columns of a slice. The largest matrix of a CT scanner is 2048 x 2048."""

WHOLE_FILE_BYTES: Final = 64 << 20
"""Up to this size a file may be held in memory as a whole; an ordinary slice has half a MiB."""

MAX_UNPACKED_BYTES: Final = 5 << 30
"""What one file may unpack to. PixelData has a length of 32 bits, so 4 GiB of it are possible."""

MAX_RATIO: Final = 100
"""Unpacked to packed bytes, of what unpacks to more than `WHOLE_FILE_BYTES`. CT packs to a half or
a tenth. Zeros, of which bombs are made, pack to a 200th or a 1000th, as small images of air do."""

MAX_HEADER_COST: Final = 600_000
"""What `HeaderStream` allows: an Enhanced CT file of 2,000 frames costs less."""


def unpacking_problem(unpacked_bytes: int, packed_bytes: int) -> str:
    """Why bytes that unpack to so many are not unpacked; empty where they may be."""
    if unpacked_bytes > MAX_UNPACKED_BYTES:
        return f"unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB, as a bomb does"
    if unpacked_bytes > max(WHOLE_FILE_BYTES, MAX_RATIO * packed_bytes):
        return f"unpacks to more than {MAX_RATIO} times its size, as a bomb does"
    return ""


class HeaderTooLarge(Exception):
    """A header has more elements than any CT file."""


class HeaderStream:
    """A binary stream of which only so much can be read as a header has.

    A sequence item of eight bytes becomes an object of seven hundred. So reads are counted, and
    the bytes of values that are read at once: `HeaderTooLarge` beyond `MAX_HEADER_COST`.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._cost = 0
        self.seek = stream.seek
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, as the stream itself does."""
        content = self._stream.read(size)
        self._cost += 1 + len(content) // 16
        if self._cost > MAX_HEADER_COST:
            raise HeaderTooLarge
        return content
