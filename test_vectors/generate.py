"""Writes vectors.json: loss and gradient of every case, in float64, checked against public libraries.

    python generate.py          writes vectors.json
    python generate.py --check  makes the same in memory and compares; exit 1 on a difference

docs/losses.md is the contract, README.md says how to build the environment.
"""

import json
import math
import sys
from importlib.metadata import version
from pathlib import Path

import torch

import cases
import losses
import peers

OUTPUT = Path(__file__).with_name("vectors.json")
PACKAGES = ["torch", "monai", "segmentation-models-pytorch", "kornia", "numpy", "scipy"]
COMMENT = (
    "Loss and gradient of docs/losses.md, in float64, by generate.py beside this file. One case per line. Numbers are"
    " in planar order [N, C, V]; `gradient` is that of the sum of `loss`; `peers` names the library calls that agreed."
    " Every input is exact in float16 and bfloat16."
)
# Last bits may differ between processors (vector widths, libm), so --check compares numbers, not bytes.
RELATIVE, ABSOLUTE = 1e-12, 1e-15


def spec(terms):
    """The spec string of (factor, name, parameters) terms."""
    out = ""
    for factor, name, parameters in terms:
        sign = "-" if factor < 0 else "+"
        out += f" {sign} " if out else "-" if factor < 0 else ""
        out += f"{number(abs(factor))}*" if abs(factor) != 1 else ""
        inner = ", ".join(f"{k}={literal(v)}" for k, v in parameters.items())
        out += f"{name}({inner})" if inner else name
    return out


def literal(v):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, list):
        rows = v if isinstance(v[0], list) else [v]
        return "[" + "; ".join(", ".join(literal(x) for x in row) for row in rows) + "]"
    return v if isinstance(v, str) else number(v)


def number(x):
    """The shortest text that reads back as x; integers without a point."""
    assert math.isfinite(x), x
    return str(int(x)) if x == int(x) and abs(x) < 1e15 else repr(float(x))


def text(value):
    """JSON on one line."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(text(v) for v in value) + "]"
    return number(value)


def exact_in_half_precision(values):
    x = torch.tensor(values, dtype=torch.float64)
    return bool((x == x.half().double()).all() and (x == x.bfloat16().double()).all())


def evaluate(name, problem, terms, reduction):
    for values in [problem.prediction, problem.dense, problem.weights, problem.map and problem.map["values"]]:
        assert not values or exact_in_half_precision(values), f"{name}: an input that half precision cannot hold"
    z = problem.z().requires_grad_()
    loss = losses.evaluate(problem, terms, reduction, z)
    loss.sum().backward()
    value, gradient = loss.detach().flatten(), z.grad.flatten()
    assert value.isfinite().all() and gradient.isfinite().all(), f"{name}: not finite"
    agreed = []
    for call, function, tolerance in peers.peers(problem, terms, reduction):
        difference = peers.agree(function, problem, value, gradient, tolerance)
        if difference:
            raise SystemExit(f"{name}: {spec(terms)}: {call}: {difference}")
        package, rest = call.split(" ", 1)
        release = version(package.replace("_", "-")).split("+")[0]
        agreed.append(f"{package} {release} {rest}")
    target = {"labels": problem.labels} if problem.labels is not None else {"dense": problem.dense}
    return {
        "name": name,
        "spec": spec(terms),
        "shape": problem.shape,
        "activation": problem.activation,
        "prediction": problem.prediction,
        "target": target,
        "ignore_label": problem.ignore_label,
        "mask": problem.mask,
        "weights": problem.weights,
        "map": problem.map,
        **({"spacing": problem.spacing} if problem.spacing else {}),
        "class_weights": problem.class_weights,
        "reduction": reduction,
        "loss": value.tolist(),
        "gradient": gradient.tolist(),
        "valid_voxels": int(problem.kept().sum()),
        "invalid_labels": int(problem.out_of_range().sum()),
        "peers": agreed,
    }


def generate():
    versions = {package: version(package).split("+")[0] for package in PACKAGES}
    made = [evaluate(*case) for case in cases.all_cases()]
    lines = ",\n".join(text(case) for case in made)
    return f'{{"_comment": {text(COMMENT)},\n"versions": {text(versions)},\n"cases": [\n{lines}\n]}}\n'


def differences(old, new, path=""):
    """Where two JSON values differ: numbers by tolerance, all else exactly."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for key in old:
            yield from differences(old[key], new[key], f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new)):
            yield from differences(a, b, f"{path}[{i}]")
    elif type(old) in (int, float) and type(new) in (int, float):
        if abs(old - new) > ABSOLUTE + RELATIVE * max(abs(old), abs(new)):
            yield f"{path}: {old!r} is committed, {new!r} is computed"
    elif old != new:
        yield f"{path}: {str(old)[:80]!r} is committed, {str(new)[:80]!r} is computed"


def check(new):
    if not OUTPUT.exists():
        return ["vectors.json does not exist"]
    old, new = json.loads(OUTPUT.read_text()), json.loads(new)
    before, after = ({case["name"]: case for case in v.pop("cases")} for v in (old, new))
    found = list(differences(old, new))
    found += [f"{name}: only committed" for name in before.keys() - after.keys()]
    found += [f"{name}: not committed" for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        found += list(differences(before[name], after[name], name))
    if not found and list(before) != list(after):
        found.append("the cases are in another order")
    return sorted(found)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    new = generate()
    if sys.argv[1:] == ["--check"]:
        found = check(new)
        for line in found[:20]:
            print(line)
        if found:
            raise SystemExit(f"vectors.json is not what generate.py makes: {len(found)} differences")
        print("vectors.json is up to date")
        return
    OUTPUT.write_text(new)
    made = json.loads(new)["cases"]
    checks = sum(len(case["peers"]) for case in made)
    covered = sum(bool(case["peers"]) for case in made)
    print(f"{len(made)} cases, {len(new)} bytes; {checks} agreements with libraries, in {covered} cases")


if __name__ == "__main__":
    main()
