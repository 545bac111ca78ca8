"""Disk images: headers, qemu-img, the store, seeds, and building from recipes."""
