"""The table of a run, and out/result.json: report.py OUT"""

import json
import os
import sys

out = sys.argv[1]


def read(name):
    path = os.path.join(out, name)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def text(name):
    try:
        with open(os.path.join(out, name), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def milliseconds(value):
    return "–" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def ratio(a, b):
    return "–" if not a or not b else f"{a / b:.1f}×"


runs = {name: read(name + ".json") for name in ("cuda", "wgpu")}
peers = read("peers.json")
everything = {"date": text("date.txt").strip(), "gpu": text("nvidia-smi.txt"), "steps": text("summary.txt").splitlines()}
everything.update({name: run for name, run in runs.items() if run}, peers=peers)
with open(os.path.join(out, "result.json"), "w", encoding="utf-8") as file:
    json.dump(everything, file, indent=1, ensure_ascii=False)


def by_name(run):
    return {result["name"]: result for result in (run or {}).get("results", [])}


main = runs["cuda"] or runs["wgpu"]
if not main:
    print("nothing was measured")
    sys.exit(0)
print(f"{main['device']}: {main['description']}; copy {main['copy_gb_per_s']:.0f} GB/s")
largest = max((peers or {}).get("results", []), key=lambda result: result.get("copy_bytes", 0), default={})
if largest.get("copy_ms") and largest.get("sum_ms"):
    speed = {name: largest[name + "_bytes"] / largest[name + "_ms"] / 1e6 for name in ("copy", "sum")}
    print(f"torch on {largest['name']}: copy {speed['copy']:.0f} GB/s, sum {speed['sum']:.0f} GB/s")
header = ["plan", "ms", "GB/s", "of copy", "wgpu ms", "eager ms", "", "MONAI ms", "", "compile ms", "", "CuPy ms", ""]
rows = [header]
wgpu, other = by_name(runs["wgpu"]), by_name(peers)
for result in main["results"]:
    peer, own = other.get(result["name"], {}), result["median_ms"]
    # A peer without a GPU measures less than it was asked for.
    if peer.get("shape") != result["shape"]:
        peer = {}
    row = [
        result["name"],
        milliseconds(own),
        f"{result['gb_per_s']:.0f}",
        f"{100 * result['share_of_copy']:.0f} %",
        milliseconds(wgpu.get(result["name"], {}).get("median_ms")),
    ]
    for name in ("eager", "monai", "compile", "cupy"):
        time = peer.get(name + "_ms")
        row += [milliseconds(time), ratio(time, own)]
    rows.append(row)
widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
for row in rows:
    print("  ".join(cell.ljust(width) if k == 0 else cell.rjust(width) for k, (cell, width) in enumerate(zip(row, widths))))
