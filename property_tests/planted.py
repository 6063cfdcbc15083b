"""All planted bugs that invariants catch, from the `planted_*` that have those of an area each; the page of guarantees is made from this list too."""

import planted_core
import planted_drains
import planted_files
import planted_finalizer
import planted_folders
import planted_kit
import planted_limits
import planted_placement
from planting import Planted

CATALOGUE: list[Planted] = [
    *planted_core.CATALOGUE,
    *planted_drains.CATALOGUE,
    *planted_files.CATALOGUE,
    *planted_finalizer.CATALOGUE,
    *planted_folders.CATALOGUE,
    *planted_kit.CATALOGUE,
    *planted_limits.CATALOGUE,
    *planted_placement.CATALOGUE,
]
