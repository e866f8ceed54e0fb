"""Times the weight map of the U-Net as scripts make it, a transform of scipy per object, beside `cargo bench --bench losses -- unet_weights`.

    SEGFUSE_BENCH_LABELS=FOLDER cargo bench --bench losses -- unet_weights     writes the labels, and measures loss and gradient
    python benches/unet_peers.py FOLDER [NAME]                                  needs numpy, scipy

The map of the peer is made once, of one sample, and without loss and gradient.
"""

import json
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt, label

ROOT = Path(__file__).parent.parent
W0, SIGMA = 10.0, 5.0


def weights(labels):
    """The map, and how many objects there are."""
    least = [np.full(labels.shape, np.inf)] * 2
    objects = 0
    for of in range(1, labels.max() + 1):
        numbers, count = label(labels == of, structure=np.ones([3] * labels.ndim))
        objects += count
        for number in range(1, count + 1):
            distance = distance_transform_edt(numbers != number)
            least = [np.minimum(least[0], distance), np.minimum(np.maximum(least[0], distance), least[1])]
    return W0 * np.exp(-((least[0] + least[1]) ** 2) / (2 * SIGMA**2)), objects


def main():
    folder, wanted = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    definitions = tomllib.loads(Path(__file__).with_name("definitions.toml").read_text())["definition"]
    for d in definitions:
        if "map=unet" not in d["loss"] or wanted not in d["name"]:
            continue
        labels = np.fromfile(folder / f"{d['name']}.u8", np.uint8).reshape(d["shape"][:1] + d["shape"][2:])[0]
        estimates = ROOT / "target/criterion/losses" / d["name"] / "new/estimates.json"
        ours = json.loads(estimates.read_text())["median"]["point_estimate"] / d["shape"][0]
        start = time.perf_counter()
        _, objects = weights(labels)
        peer = (time.perf_counter() - start) * 1e9
        row = f"{d['name']:20} {objects:4} objects  {ours / 1e6:8.2f} ms, {ours / labels.size:6.1f} ns per voxel"
        print(f"{row}  scipy {peer / 1e6:9.0f} ms, {peer / labels.size:7.0f} ns, {peer / ours:.0f}x", flush=True)


if __name__ == "__main__":
    main()
