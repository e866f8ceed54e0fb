"""Compiles one CUDA C++ file to PTX: nvrtc.py LIBRARY SOURCE OUTPUT OPTION…; the source with its last lines from standard input."""

import ctypes
import os
import sys

# The order of some of the compiler's tables, and with it its text, follows from where its memory lies: it begins again where
# that is not random.
ADDR_NO_RANDOMIZE = 0x0040000
process = ctypes.CDLL(None)
persona = process.personality(0xFFFFFFFF)
if persona != -1 and not persona & ADDR_NO_RANDOMIZE and process.personality(persona | ADDR_NO_RANDOMIZE) != -1:
    os.execv(sys.executable, sys.orig_argv)

library, source, output, *options = sys.argv[1:]
nvrtc = ctypes.CDLL(library)
program = ctypes.c_void_p()


def check(status, what):
    if status != 0:
        sys.exit(f"{source}: {what}: status {status}")


def text(size_of, read):
    size = ctypes.c_size_t()
    check(size_of(program, ctypes.byref(size)), "size of a text")
    buffer = ctypes.create_string_buffer(size.value)
    check(read(program, buffer), "reading a text")
    return buffer.value.decode()


with open(source, encoding="utf-8") as file:
    whole = file.read() + sys.stdin.read()
name = source.rsplit("/", 1)[-1].encode()
check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), whole.encode(), name, 0, None, None), "creating a program")
arguments = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
status = nvrtc.nvrtcCompileProgram(program, len(options), arguments)
log = text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
if log:
    print(log, file=sys.stderr)
check(status, "compiling")
with open(output, "w", encoding="utf-8") as file:
    file.write(text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX))
