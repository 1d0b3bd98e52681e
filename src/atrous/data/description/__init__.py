"""What a user says about a folder of images: which files belong together, and what masks mean."""

from atrous.data.description.color_code import ColorCode
from atrous.data.description.description import FILE, Description
from atrous.data.description.patterns import Pattern, picture_files
from atrous.data.description.yaml_file import read_description, write_description

__all__ = ["FILE", "ColorCode", "Description", "Pattern", "picture_files", "read_description", "write_description"]
