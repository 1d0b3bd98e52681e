"""What pyproject.toml cannot say: the configuration lies beside the sources, and in a wheel within the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfiguration(build_py):
    """Copies ``conf/`` into the package; an editable install finds it in the checkout."""

    def run(self) -> None:
        """Build the package, then copy the configuration into it."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "atrous" / "conf"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("conf", target)


setup(cmdclass={"build_py": BuildWithConfiguration})
