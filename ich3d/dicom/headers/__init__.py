"""From the bytes of a file to the header of each slice."""
