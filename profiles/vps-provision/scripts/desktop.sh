#!/bin/sh
# A desktop that is used over RDP only: no display manager, and the machine still boots to the console.
set -eu

apt-get install -y \
    xserver-xorg-core xorgxrdp xfce4 xfce4-terminal dbus-x11 x11-xserver-utils \
    fonts-dejavu-core adwaita-icon-theme firefox-esr mousepad
systemctl set-default multi-user.target

install -m 644 -o dev -g dev /opt/provision/xsession /home/dev/.xsession
