"""A transport for visavis: the talking avatar as a video file."""

from visavis_transport_file.options import FileSessionOptions, FileTransportOptions

__all__ = ["FileSessionOptions", "FileTransportOptions"]
