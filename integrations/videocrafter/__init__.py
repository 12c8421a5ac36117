"""Refine a folder of clips with VideoCrafter; see README.md beside this file."""
