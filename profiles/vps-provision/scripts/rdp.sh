#!/bin/sh
# The RDP server; TLS with the certificate that the package ssl-cert makes for this machine.
set -eu

apt-get install -y xrdp xorgxrdp ssl-cert
usermod --append --groups ssl-cert xrdp
systemctl enable xrdp xrdp-sesman
systemctl restart xrdp-sesman xrdp
