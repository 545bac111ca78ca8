#!/bin/sh
# IDEs that Debian itself carries, for C and C++ and for Python.
set -eu

apt-get install -y geany codeblocks thonny python3-tk gdb
