"""Video files in and out: probe, read, write, compare. Decoders and encoders are imported when first used."""

from .compare import SideBySideWriter, contact_sheet
from .errors import VideoError
from .info import VideoInfo
from .limits import ReadLimits
from .probe import probe
from .read import FrameReader, read_clip
from .write import FrameWriter, write_clip

__all__ = [
    "FrameReader",
    "FrameWriter",
    "ReadLimits",
    "SideBySideWriter",
    "VideoError",
    "VideoInfo",
    "contact_sheet",
    "probe",
    "read_clip",
    "write_clip",
]
