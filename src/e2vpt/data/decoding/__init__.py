"""From bytes to pixels: which files are images, what decoding one costs, and any pixel format as 8-bit RGB.

May import: errors, config, files.
Never: the rest of data.
"""
