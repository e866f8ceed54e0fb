"""Times of other implementations on the shapes of the benches: peers.py DEFINITIONS.toml OUT.json

Loss and gradient by PyTorch, eager and compiled, by MONAI where it is installed; distance maps by CuPy where that is installed; and
what memory gives: a copy from device to device, and a sum. Times are medians by events of the device, after a warm-up; nothing is downloaded in between.
"""

import json
import math
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as F

SECONDS = 0.4
BUDGET = 130.0
BEGIN = time.monotonic()
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def definitions(path):
    """The tables of the file, which has numbers, strings, lists of numbers and booleans only."""
    found = []
    for line in open(path, encoding="utf-8"):
        line = line.strip()
        if line in ("[[definition]]", "[[distance]]"):
            found.append({})
        elif match := re.match(r"(\w+)\s*=\s*(.+?)\s*(#.*)?$", line):
            if found:
                found[-1][match[1]] = json.loads(match[2])
    return found


def median(call, device):
    """Seconds of a call."""
    if device.type != "cuda":
        call()
        times = []
        while len(times) < 3:
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    times = []
    begin = time.monotonic()
    while len(times) < 5 or time.monotonic() - begin < SECONDS:
        pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(8)]
        for before, after in pairs:
            before.record()
            call()
            after.record()
        torch.cuda.synchronize()
        times += [before.elapsed_time(after) * 1e-3 for before, after in pairs]
    return statistics.median(times)


def one_hot(labels, classes):
    return F.one_hot(labels.long(), classes).movedim(-1, 1)


def overlap(z, labels, alpha, beta, smooth=1e-5):
    """Tversky with Dice as alpha = beta = 1/2; sigmoid for one class, else softmax."""
    classes = z.shape[1]
    p = torch.sigmoid(z.float()) if classes == 1 else torch.softmax(z.float(), 1)
    g = labels.unsqueeze(1).float() if classes == 1 else one_hot(labels, classes).float()
    axes = tuple(range(2, z.ndim))
    i, p, g = (p * g).sum(axes), p.sum(axes), g.sum(axes)
    return (1 - (i + smooth) / (i + alpha * (p - i) + beta * (g - i) + smooth)).mean()


def cross_entropy(z, labels):
    return F.cross_entropy(z.float(), labels.long())


def focal(z, labels, gamma=2.0):
    ce = F.cross_entropy(z.float(), labels.long(), reduction="none")
    return ((1 - torch.exp(-ce)) ** gamma * ce).mean()


PLAIN = {
    "dice + ce": lambda z, y: overlap(z, y, 0.5, 0.5) + cross_entropy(z, y),
    "dice": lambda z, y: overlap(z, y, 0.5, 0.5),
    "tversky": lambda z, y: overlap(z, y, 0.3, 0.7),
    "ce": cross_entropy,
    "focal": focal,
}


def monai(loss):
    try:
        from monai import losses
    except ImportError:
        return None
    if loss == "dice + ce":
        made = losses.DiceCELoss(softmax=True, to_onehot_y=True)
    elif loss == "dice":
        made = losses.DiceLoss(sigmoid=True)
    elif loss == "tversky":
        made = losses.TverskyLoss(softmax=True, to_onehot_y=True, alpha=0.3, beta=0.7)
    elif loss == "focal":
        made = losses.FocalLoss(use_softmax=True, to_onehot_y=True)
    else:
        return None
    return lambda z, y: made(z.float(), y.unsqueeze(1))


def measure(definition, device):
    shape, dtype = definition["shape"], TYPES[definition.get("dtype", "f32")]
    gradient = definition.get("gradient", True)
    if device.type != "cuda":
        shape = shape[:2] + [min(extent, 16) for extent in shape[2:]]
    classes = shape[1]
    generator = torch.Generator(device="cpu").manual_seed(1)
    voxels = [shape[0]] + shape[2:]
    labels = torch.randint(0, max(classes, 2), voxels, generator=generator, dtype=torch.uint8).to(device)
    logits = torch.empty(shape, dtype=dtype, device=device).uniform_(-4, 4).requires_grad_(gradient)
    result = {"name": definition["name"], "shape": shape}

    def timed(name, make):
        if time.monotonic() - BEGIN > BUDGET:
            result.setdefault("left_out", []).append(name)
            return
        try:
            function = make()
            if function is None:
                return

            def call():
                loss = function(logits, labels)
                if gradient:
                    logits.grad = None
                    loss.backward()

            result[name + "_ms"] = median(call, device) * 1e3
        except Exception as error:  # what one peer cannot do must not end the others
            result.setdefault("failed", {})[name] = f"{type(error).__name__}: {error}"[:300]
        finally:
            logits.grad = None
            if device.type == "cuda":
                torch.cuda.empty_cache()

    plain = PLAIN.get(definition["loss"])
    copy = torch.empty_like(logits, requires_grad=False)
    source = logits.detach()
    result["copy_ms"] = median(lambda: copy.copy_(source), device) * 1e3
    result["copy_bytes"] = 2 * source.numel() * source.element_size()
    result["sum_ms"] = median(lambda: source.sum(), device) * 1e3
    result["sum_bytes"] = source.numel() * source.element_size()
    del copy
    if plain:
        timed("eager", lambda: plain)
        timed("monai", lambda: monai(definition["loss"]))
        if device.type == "cuda":
            # Each shape is compiled for itself, as if it were the only one.
            torch._dynamo.reset()
            timed("compile", lambda: torch.compile(plain, dynamic=False))
    return result


def measure_distance(definition, device):
    """A map to the other side of one ball, which is what CuPy's transform makes; of a ball off the middle, as for segfuse."""
    extents = definition["extents"]
    result = {"name": definition["name"], "shape": [1, 1] + extents}
    if definition["classes"] != 2 or device.type != "cuda":
        return result
    try:
        import cupy
        from cupyx.scipy.ndimage import distance_transform_edt
    except ImportError:
        return result
    axes = [((torch.arange(extent, device=device) / extent - 0.45) / 0.3) ** 2 for extent in extents]
    square = sum(axis.reshape([-1 if k == j else 1 for k in range(len(axes))]) for j, axis in enumerate(axes))
    mask = cupy.from_dlpack((square > 1.0).to(torch.uint8))
    stream = cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
    with stream:
        result["cupy_ms"] = median(lambda: distance_transform_edt(mask, float64_distances=False), device) * 1e3
    return result


def main():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = {"torch": torch.__version__, "device": str(device), "results": []}
    if device.type == "cuda":
        results["description"] = torch.cuda.get_device_name(device)
    # The largest first: where the time is up, small ones are left out.
    size = lambda definition: -math.prod(definition.get("shape", definition.get("extents")))
    for definition in sorted(definitions(sys.argv[1]), key=size):
        try:
            kind = measure_distance if "extents" in definition else measure
            results["results"].append(kind(definition, device))
        except Exception as error:  # as above: out of memory, most likely
            results["results"].append({"name": definition["name"], "failed": {"all": str(error)[:300]}})
        print(results["results"][-1], flush=True)
        # What was measured is there even if the rest is stopped.
        with open(sys.argv[2], "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


main()
