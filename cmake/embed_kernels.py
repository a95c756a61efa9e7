"""Write OUT, C++ that holds the device code of csrc/kernels: argument 1 is OUT, 2 the folder, the rest its .cu files.

Each file becomes one text, with what it includes from "kernels/" in place. Its lines BC_ENTRY(name, ...) stand apart,
so that the runtime can compile the text with one entry point alone.
"""

import re
import sys
from pathlib import Path

out, folder = Path(sys.argv[1]), Path(sys.argv[2])
ENTRY = re.compile(r"^BC_ENTRY\((\w+),.*\)$", re.MULTILINE)


def flat(file: Path, seen: set[Path]) -> str:
    if file in seen:
        return ""
    seen.add(file)
    text = file.read_text().replace("#pragma once\n", "")
    return re.sub(r'#include "kernels/(\S+)"\n', lambda found: flat(folder / found[1], seen), text)


def literal(text: str) -> str:
    """A C++ string, in pieces that every compiler takes."""
    pieces = [text[at : at + 8000] for at in range(0, len(text), 8000)]
    return "\n".join(f'R"kernel({piece})kernel"' for piece in pieces)


sources, entries = [], []
for number, name in enumerate(sys.argv[3:]):
    text = flat(folder / name, set())
    entries += [f"    {{{literal(line[0])}, {number}}}," for line in ENTRY.finditer(text)]
    sources.append(f'    {{"{Path(name).stem}", {literal(ENTRY.sub("", text))}}},')

out.write_text(
    "\n".join(
        [
            "// Written by cmake/embed_kernels.py",
            '#include "runtime/kernel_sources.h"',
            "namespace blackwell_compat::runtime {",
            "const std::vector<KernelSource>& kernel_sources() {",
            "  static const std::vector<KernelSource> sources{",
            *sources,
            "  };",
            "  return sources;",
            "}",
            "const std::vector<KernelEntry>& kernel_entries() {",
            "  static const std::vector<KernelEntry> entries{",
            *entries,
            "  };",
            "  return entries;",
            "}",
            "}  // namespace blackwell_compat::runtime",
            "",
        ]
    )
)
