"""Video files in and out: probe, read, write, compare. Decoders and encoders are imported when first used."""

from nc_refiner.video.compare import SideBySideWriter, contact_sheet
from nc_refiner.video.errors import VideoError
from nc_refiner.video.limits import ReadLimits
from nc_refiner.video.probe import VideoInfo, probe
from nc_refiner.video.read import FrameReader, read_clip
from nc_refiner.video.write import FrameWriter, write_clip

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
