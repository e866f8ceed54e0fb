"""Times scipy, the edt package and `segfuse distance` on the same labels, one after the other, in one run.

    SEGFUSE_BENCH_LABELS=FOLDER cargo bench --bench distance -- none       writes the labels
    python benches/distance_peers.py target/release/segfuse FOLDER         needs numpy, scipy, edt

Each makes the map anew in fresh memory; the time is that of the call alone, the best of a few. Processor times are those of all
threads together, and say more where the machine has other work.
"""

import json
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import edt
import numpy as np
from scipy.ndimage import distance_transform_edt

THREADS = 2
CALLS = {"scipy": 2, "edt": 4, "segfuse": 6}


def best(name, call):
    """The least wall time and the least processor time, in seconds, and the result."""
    times = []
    for _ in range(CALLS[name]):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(t[0] for t in times), min(t[1] for t in times), result


def segfuse(program, labels, kind, classes):
    """The least time that the command reports, and the maps."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "labels.npy", Path(folder) / "maps.npy"
        np.save(source, labels[None])
        arguments = [program, "distance", "--target", source, "--out", out, "--kind", kind, "--json"]
        arguments += ["--classes", "1"] if classes == 2 else ["--num-classes", str(classes)]
        runs = [json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout) for _ in range(CALLS["segfuse"])]
        return min(run["time_ms"] for run in runs) / 1e3, np.load(out)[0]


def main():
    program, folder = sys.argv[1], Path(sys.argv[2])
    definitions = tomllib.loads(Path(__file__).with_name("distances.toml").read_text())["distance"]
    print("definition        kind       segfuse     edt                scipy")
    for d in definitions:
        labels = np.fromfile(folder / f"{d['name']}.u8", np.uint8).reshape(d["extents"])
        for kind in d["kinds"]:
            wall, maps = segfuse(program, labels, kind, d["classes"])
            row = f"{d['name']:17} {kind:10} {wall * 1e3:7.1f} ms"
            if kind in ("outside", "inside") and d["classes"] == 2:
                # Both libraries measure from voxels that are not 0 to those that are.
                mask = np.ascontiguousarray(labels == (0 if kind == "outside" else 1))
                for name, call in [
                    ("edt", lambda: edt.edt(mask, black_border=False, parallel=THREADS)),
                    ("scipy", lambda: distance_transform_edt(mask)),
                ]:
                    peer, cpu, result = best(name, call)
                    assert np.abs(result - maps[0]).max() < 1e-3, name
                    row += f"  {peer * 1e3:8.1f} ({cpu * 1e3:.0f}) {peer / wall:5.1f}x"
            elif kind == "inside":
                # One map of all labels, where a label counts as not 0.
                peer, cpu, result = best("edt", lambda: edt.edt(labels + 1, black_border=False, parallel=THREADS))
                assert np.abs(result - maps.sum(0)).max() < 1e-3
                row += f"  {peer * 1e3:8.1f} ({cpu * 1e3:.0f}) {peer / wall:5.1f}x"
            print(row, flush=True)


if __name__ == "__main__":
    main()
