"""Bytes <-> Video: MP4, WebP, GIF, contact sheets, folders of PNG frames, each with the notes of its video.

write_video(video, "rain.mp4")      the ending decides the format; nothing half-written is ever seen
video = read_video("rain.mp4")      the first bytes decide how it is read; broken files are refused
read_notes("rain.mp4")["prompt"]
"""

from mutoscope.media.destination import SUFFIXES, check_writable
from mutoscope.media.reader import MAX_PIXELS, PICTURES, Reader, open_reader, read_notes, read_video
from mutoscope.media.sheet import contact_sheet
from mutoscope.media.stills import save_png
from mutoscope.media.writer import Writer, open_writer, write_video

__all__ = [
    "MAX_PIXELS",
    "PICTURES",
    "SUFFIXES",
    "Reader",
    "Writer",
    "check_writable",
    "contact_sheet",
    "open_reader",
    "open_writer",
    "read_notes",
    "read_video",
    "save_png",
    "write_video",
]
