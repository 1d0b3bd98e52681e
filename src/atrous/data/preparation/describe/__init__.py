"""Looking at a user's folder of images, and describing it."""

from atrous.data.preparation.describe.look import Found, describe

__all__ = ["Found", "describe"]
