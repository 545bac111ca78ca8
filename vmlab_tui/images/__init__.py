"""The image store, qcow2 headers, qemu-img, seeds, image building."""
