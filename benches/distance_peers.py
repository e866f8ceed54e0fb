"""Times scipy and the edt package beside `cargo bench --bench distance`, on the same labels, one after the other, in one run.

    SEGFUSE_BENCH_LABELS=FOLDER cargo bench -p segfuse --bench distance -- none      writes the labels and maps
    python benches/distance_peers.py FOLDER [NAME]                                  needs numpy, scipy, edt

Times are medians of calls. The peers allocate their maps, the bench writes to a buffer of its own. Processor times in brackets are those of
all threads together.
"""

import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import edt
import numpy as np
from scipy.ndimage import distance_transform_edt

THREADS = 2
CALLS = {"scipy": 3, "edt": 5}
ROOT = Path(__file__).parent.parent


def median(name, call):
    """The median wall time and processor time, in seconds, and the result."""
    times = []
    for _ in range(CALLS[name]):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return *sorted(times)[len(times) // 2], result


def segfuse(name, kind):
    """The median that criterion finds, in seconds."""
    bench = ["cargo", "bench", "-p", "segfuse", "--bench", "distance", "--", f"{name}/{kind}$"]
    subprocess.run(bench, cwd=ROOT, check=True, capture_output=True)
    found = ROOT / "target/criterion/distance" / name / kind / "new/estimates.json"
    return json.loads(found.read_text())["median"]["point_estimate"] / 1e9


def peers(labels, kind, classes):
    """Calls that make the same maps, by name."""
    if kind == "multi-label":
        return [("edt", lambda: [edt.edt(labels, black_border=False, parallel=THREADS)])]
    if kind not in ("outside", "inside"):
        return []
    if classes > 2 and kind == "inside":
        # One map of the inside of all labels, none of which may be 0.
        return [("edt", lambda: [edt.edt(labels + 1, black_border=False, parallel=THREADS)])]
    # All measure from voxels that are not 0 to those that are.
    of = range(classes) if classes > 2 else [1]
    masks = [np.ascontiguousarray((labels == label) == (kind == "inside")) for label in of]
    return [
        ("edt", lambda: [edt.edt(mask, black_border=False, parallel=THREADS) for mask in masks]),
        ("scipy", lambda: [distance_transform_edt(mask) for mask in masks]),
    ]


def main():
    folder, wanted = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    definitions = tomllib.loads(Path(__file__).with_name("distances.toml").read_text())["distance"]
    for d in definitions:
        if wanted not in d["name"]:
            continue
        labels = np.fromfile(folder / f"{d['name']}.u8", np.uint8).reshape(d["extents"])
        for kind in d["kinds"]:
            ours = segfuse(d["name"], kind)
            row = f"{d['name']:17} {kind:11} {ours * 1e3:8.2f} ms"
            own = folder / f"{d['name']}.{kind}.f32"
            results = [[np.fromfile(own, np.float32).reshape(d["extents"])]] if own.exists() else []
            for name, call in peers(labels, kind, d["classes"]):
                wall, cpu, result = median(name, call)
                results.append(result)
                row += f"  {name} {wall * 1e3:8.1f} ms ({cpu * 1e3:.0f}), {wall / ours:.1f}x"
            for maps in zip(*results, strict=True):
                # To a class that is absent there is no distance, which is infinite or made up.
                if all(np.isfinite(map).all() for map in maps):
                    assert all(np.abs(map - maps[0]).max() < 1e-3 for map in maps), "the maps differ"
            print(row, flush=True)


if __name__ == "__main__":
    main()
