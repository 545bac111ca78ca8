"""A boot sector made of plain machine code: it runs under QEMU without any disk image or tool."""

from __future__ import annotations

import struct

ORIGIN = 0x7C00
"""Where the BIOS loads a boot sector."""
EXIT_PORT = 0xF4
EXIT_STATUS = (0x2A << 1) | 1
"""QEMU's exit status when the guest writes 0x2A to isa-debug-exit."""

_TO_LONG_MODE = (
    "fa fc"  # cli; cld
    "31 c0  8e d8  8e c0  8e d0"  # xor ax, ax; mov ds, es, ss = ax
    "bc 00 7c"  # mov sp, 0x7c00
    "bf 00 10  b9 00 18  f3 ab"  # mov di, 0x1000; mov cx, 0x1800; rep stosw  (three empty tables)
    "c7 06 00 10 03 20"  # mov word [0x1000], 0x2003  PML4[0] -> the table at 0x2000, present, writable
    "c7 06 00 20 03 30"  # mov word [0x2000], 0x3003  PDPT[0] -> the table at 0x3000
    "c7 06 00 30 83 00"  # mov word [0x3000], 0x0083  PD[0] -> one page of 2 MiB at 0
    "0f 01 16 {gdtr}"  # lgdt [gdtr]
    "66 b8 20 00 00 00  0f 22 e0"  # mov eax, 0x20; mov cr4, eax  PAE
    "66 b8 00 10 00 00  0f 22 d8"  # mov eax, 0x1000; mov cr3, eax
    "66 b9 80 00 00 c0  0f 32"  # mov ecx, 0xc0000080; rdmsr  EFER
    "66 0d 00 01 00 00  0f 30"  # or eax, 0x100; wrmsr  LME
    "66 b8 01 00 00 80  0f 22 c0"  # mov eax, 0x80000001; mov cr0, eax  paging and protection at once
    "ea {start} 08 00"  # jmp 0x08:start  into 64-bit code
)
_COUNT = (
    "b9 {count}"  # mov ecx, count
    "ff c9  75 fc"  # again: dec ecx; jnz again
    "b0 2a  e6 f4"  # mov al, 0x2a; out 0xf4, al  QEMU ends here
    "f4  eb fd"  # stop: hlt; jmp stop
)
_GDT = (
    "00 00 00 00 00 00 00 00"  # the null descriptor
    "00 00 00 00 00 9a 20 00"  # 0x08: 64-bit code
)


def sector(code: bytes) -> bytes:
    """``code`` as a boot sector."""
    assert len(code) <= 510
    return code.ljust(510, b"\0") + b"\x55\xaa"


def counter(count: int) -> bytes:
    """512 bytes that enter 64-bit mode with paging, count ``count`` down and leave through isa-debug-exit."""

    def code(start: int, gdtr: int) -> bytes:
        head = _TO_LONG_MODE.format(gdtr=struct.pack("<H", gdtr).hex(), start=struct.pack("<H", start).hex())
        return bytes.fromhex(head)

    start = ORIGIN + len(code(0, 0))
    body = bytes.fromhex(_COUNT.format(count=struct.pack("<I", count).hex()))
    gdt = start + len(body)
    table = bytes.fromhex(_GDT)
    return sector(code(start, gdt + len(table)) + body + table + struct.pack("<HI", len(table) - 1, gdt))
