"""Builds the native library of this machine and the CUDA sources into the package; the wheel is the platform's."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent / "csrc"))
import build as native


class BuildWithNative(build_py):
    def run(self):
        native.place_cuda_sources()
        library = native.this_machine()
        if library is None:
            print(
                "softras: no native backend for this machine; the slow torch definition will be used", file=sys.stderr
            )
        else:
            native.build([library])
        super().run()


class PlatformWheel(bdist_wheel):
    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(cmdclass={"build_py": BuildWithNative, "bdist_wheel": PlatformWheel})
